"""Hostile tokenizer data: always a TokenizerError, never a crash."""

import json
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from text_support import LazyArray, byte_level_metadata, strings, trained
from tonnage.core.errors import TokenizerError
from tonnage.text.pipeline import read_pipeline
from tonnage.text.tokenizer import Tokenizer

TOKENS, MERGES = trained(["abc abc abd"], "gpt-2", 262)
N = len(TOKENS)


def metadata(**changes):
    full = byte_level_metadata(TOKENS, MERGES, "gpt-2")
    full.update({f"tokenizer.ggml.{k}": v for k, v in changes.items()})
    return {k: v for k, v in full.items() if v is not ...}


def ints(*values):
    return LazyArray(struct.pack(f"<{len(values)}i", *values), len(values))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model": ...}, "tokenizer.ggml.model"),
        ({"model": "t5"}, "t5"),
        ({"model": 5}, "model"),
        ({"pre": "new"}, "'new'"),
        ({"tokens": ...}, "tokens"),
        ({"merges": ...}, "merges"),
        ({"tokens": 3}, "not an array"),
        ({"tokens": strings([])}, "no tokens"),
        ({"tokens": strings([*TOKENS[:-1], b"\xff"])}, "UTF-8"),
        ({"tokens": strings([*TOKENS[:-1], TOKENS[0]])}, "same text"),
        ({"tokens": LazyArray(b"\xff" * 64, 4), "token_type": ...}, "leaves its array"),
        ({"tokens": LazyArray(b"\0" * 64, 1 << 62)}, "exceed"),
        ({"tokens": LazyArray(b"\0" * 64, 9)}, "do not fit"),
        ({"token_type": ints(1, 1)}, "do not fit"),
        ({"token_type": ints(*[9] * N)}, "type 9"),
        ({"token_type": ints(*[-1] * N)}, "type -1"),
        ({"merges": strings([b"\xc0 a"])}, "UTF-8"),
        ({"eos_token_id": "x"}, "eos_token_id"),
        ({"add_bos_token": 7}, "add_bos_token"),
        ({"tokens": strings([*TOKENS[:-1], "x" * 70000])}, "65535"),
        ({"model": "llama"}, "scores"),
        ({"model": "llama", "scores": LazyArray(struct.pack("<f", 1), 1)}, "scores do not fit"),
        (
            {"model": "llama", "scores": LazyArray(struct.pack(f"<{N}f", *[float("nan")] * N), N)},
            "not a number",
        ),
        ({"token_type": ints(*[3] * N), "tokens": strings(["x" * 2000, *TOKENS[1:]])}, "1024"),
    ],
)
def test_each_fault_is_named(changes, named):
    with pytest.raises(TokenizerError, match=named):
        Tokenizer.from_gguf(metadata(**changes))


def test_merges_that_cannot_be_carried_out_never_matter():
    odd = ["a zzz", "zzz a", "z z", "ab", " ", "a ", *(f"{a} {b}" for a, b in MERGES)]
    for merges, text in ((strings(odd), "abc abd zzz"), (strings([]), "abc")):
        tokenizer = Tokenizer.from_gguf(metadata(merges=merges))
        right = Tokenizer.from_gguf(metadata()) if merges.count else None
        ids = tokenizer.encode(text, add_special=False, parse_special=False)
        wanted = [TOKENS.index(c) for c in text.replace(" ", "Ġ")]
        if right:
            wanted = right.encode(text, add_special=False, parse_special=False)
        assert ids == wanted


@pytest.mark.parametrize("name", ["bos_token_id", "eos_token_id", "eot_token_id"])
@pytest.mark.parametrize("value", [-5, N, 10**6])
def test_an_id_that_no_token_has_is_left_out_with_a_warning(name, value, caplog):
    plain = metadata(add_bos_token=True, add_eos_token=True, pre="gpt-2")
    tokenizer = Tokenizer.from_gguf({**plain, f"tokenizer.ggml.{name}": value})
    assert tokenizer.bos_id is None
    assert tokenizer.eos_ids == frozenset()
    ids = tokenizer.encode("abc", add_special=True, parse_special=False)
    assert ids == Tokenizer.from_gguf(plain).encode("abc", add_special=True, parse_special=False)
    assert name in caplog.text


def test_a_template_that_is_no_text_is_refused():
    with pytest.raises(TokenizerError, match="chat_template"):
        Tokenizer.from_gguf({**metadata(), "tokenizer.chat_template": 3})


raw_arrays = st.builds(LazyArray, st.binary(max_size=200), st.integers(0, 1 << 64 - 1))
values = st.one_of(
    raw_arrays, st.integers(-(1 << 40), 1 << 40), st.text(max_size=8), st.booleans(), st.floats()
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(
        st.sampled_from(
            [
                "tokens",
                "merges",
                "token_type",
                "scores",
                "pre",
                "model",
                "bos_token_id",
                "add_space_prefix",
            ]
        ),
        values,
        max_size=4,
    ),
    st.sampled_from(["gpt2", "llama"]),
)
def test_any_metadata_load_or_raise(changes, model):
    try:
        tokenizer = Tokenizer.from_gguf(
            {**metadata(model=model), **{f"tokenizer.ggml.{k}": v for k, v in changes.items()}}
        )
    except TokenizerError:
        return
    tokenizer.decode(tokenizer.encode("a \u00e9", add_special=True, parse_special=True))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_flipped_byte_of_the_arrays_loads_or_raises(data):
    name = data.draw(st.sampled_from(["tokens", "merges"]))
    full = metadata()
    array = full[f"tokenizer.ggml.{name}"]
    raw = bytearray(array.buffer())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    full[f"tokenizer.ggml.{name}"] = LazyArray(bytes(raw), array.count)
    try:
        Tokenizer.from_gguf(full).encode("abc abd", add_special=False, parse_special=False)
    except TokenizerError:
        return


MODEL = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}


def folder(tmp_path, content, config=None):
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    (tmp_path / "tokenizer.json").write_bytes(text)
    if config is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    return tmp_path


def test_the_small_model_loads(tmp_path):
    tokenizer = Tokenizer.from_folder(folder(tmp_path, {"model": MODEL}))
    assert tokenizer.encode("abba", add_special=True, parse_special=True) == [2, 1, 0]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "0 bytes"),
        (b"{", "byte 1"),
        (b"[]", "no '{'"),
        (b'{"model": ', "byte"),
        (b'{"a": "x', "unclosed"),
        (b"{" * 9999, "byte"),
        (b'{"model": ' + b"[" * 9999, "deep"),
        ({}, "no 'model'"),
        ({"model": {"type": "BPE", "merges": []}}, "no 'vocab'"),
        ({"model": {**MODEL, "type": "Markov"}}, "Markov"),
        ({"model": {**MODEL, "type": "Unigram"}}, r"no '\['"),
        ({"model": {"type": "Unigram", "vocab": [["a", "b"]]}}, "no value"),
        ({"model": {"type": "Unigram", "vocab": [["a", 1e999]]}}, "no value"),
        ({"model": {"type": "Unigram", "vocab": [["a", -1]], "unk_id": 5}}, "unknown token 5"),
        ({"model": {"type": "Unigram", "vocab": [["a", -1]], "unk_id": "x"}}, "unk_id"),
        ({"model": {"type": "Unigram", "vocab": []}}, "no tokens"),
        ({"model": {**MODEL, "dropout": 0.1}}, "dropout"),
        ({"model": {**MODEL, "unk_token": 3}}, "unk_token"),
        ({"model": {**MODEL, "vocab": {}}}, "no tokens"),
        ({"model": {**MODEL, "vocab": {"a": 0, "b": 0}}}, "given twice"),
        ({"model": {**MODEL, "vocab": {"a": -1}}}, "whole number"),
        ({"model": {**MODEL, "vocab": {"a": 1 << 40}}}, "absurd"),
        ({"model": {**MODEL, "vocab": {"a": 1.5}}}, "whole number"),
        ({"model": {**MODEL, "vocab": {"a": "x"}}}, "whole number"),
        ({"model": {**MODEL, "vocab": []}}, "no '{'"),
        ({"model": {**MODEL, "merges": [["a", "c"]]}}, "right part of merge 0"),
        ({"model": {**MODEL, "merges": ["ab"]}}, "not a pair"),
        ({"model": {**MODEL, "merges": [["a"]]}}, "no ','"),
        ({"model": {**MODEL, "merges": [1]}}, "no string"),
        ({"model": {**MODEL, "end_of_word_suffix": 5}}, "end_of_word_suffix"),
        ({"model": MODEL, "normalizer": {"type": "Exotic"}}, "Exotic"),
        ({"model": MODEL, "normalizer": {"type": "Precompiled"}}, "precompiled_charsmap"),
        *(
            ({"model": MODEL, "normalizer": {"type": "Precompiled", "precompiled_charsmap": x}}, y)
            for x, y in ((5, "no text"), ("!", "base64"), ("AAAA", "early"), ("/////wAA", "trie"))
        ),
        ({"model": MODEL, "pre_tokenizer": {"type": "UnicodeScripts"}}, "UnicodeScripts"),
        ({"model": MODEL, "pre_tokenizer": {"type": "FixedLength", "length": 0}}, "length"),
        ({"model": MODEL, "decoder": {"type": "CTC"}}, "CTC"),
        ({"model": MODEL, "post_processor": {"type": "BertProcessing"}}, "malformed"),
        ({"model": MODEL, "normalizer": 3}, "malformed"),
        (
            {
                "model": MODEL,
                "pre_tokenizer": {
                    "type": "Split",
                    "pattern": {"Regex": "(?>a)b"},
                    "behavior": "Isolated",
                },
            },
            "group",
        ),
        ({"model": MODEL, "added_tokens": [3]}, "no text"),
        ({"model": MODEL, "added_tokens": [{"content": "x", "id": -1}]}, "no token id"),
        ({"model": MODEL, "added_tokens": [{"content": "x", "id": 10**8}]}, "absurd"),
        ({"model": MODEL, "added_tokens": [{"content": "x", "id": 1 << 40}]}, "no token id"),
        ({"model": MODEL, "added_tokens": [{"content": "x", "id": 0}]}, "another text"),
        (b'{"model": {"vocab": {"\\ud800": 0}, "merges": []}}', "surrogate"),
        (b'{"model": {"vocab": {"\xff": 0}, "merges": []}}', "UTF-8"),
        (b'{"model": {"vocab": {"a": 0, "a": 1}, "merges": []}}', "same text"),
    ],
)
def test_each_fault_of_a_folder_is_named(tmp_path, content, named):
    with pytest.raises(TokenizerError, match=named):
        Tokenizer.from_folder(folder(tmp_path, content))


def test_an_empty_folder_is_named(tmp_path):
    with pytest.raises(TokenizerError, match=r"no tokenizer\.json"):
        Tokenizer.from_folder(tmp_path)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_damaged_json_loads_or_raises(tmp_path_factory, data):
    raw = bytearray(
        json.dumps(
            {"model": MODEL, "added_tokens": [{"content": "<x>", "id": 3, "special": True}]}
        ).encode()
    )
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=2))
    path = tmp_path_factory.mktemp("damaged")
    try:
        Tokenizer.from_folder(folder(path, bytes(raw))).encode(
            "abba <x>", add_special=True, parse_special=True
        )
    except TokenizerError:
        return


@pytest.mark.parametrize("name", [["default"], {}, None, 5])
def test_a_template_without_a_name_is_no_template(tmp_path, name):
    templates = [{"name": name, "template": "x"}, {"name": "tools", "template": "y"}, "z"]
    path = folder(tmp_path, {"model": MODEL}, {"chat_template": templates})
    assert Tokenizer.from_folder(path).chat_template is None
    templates.append({"name": "default", "template": "right"})
    path = folder(tmp_path, {"model": MODEL}, {"chat_template": templates})
    assert Tokenizer.from_folder(path).chat_template == "right"


def test_components_nested_deeper_than_python_goes():
    part = {"type": "ByteLevel"}
    for _ in range(5000):
        part = {"type": "Sequence", "pretokenizers": [part]}
    with pytest.raises(TokenizerError, match="malformed"):
        read_pipeline({"pre_tokenizer": part}, {})
