"""What is counted in a model's files, against the tokenizer that is built from them."""

import json
from array import array
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.checkpoints import FAMILIES, tiny_config, tiny_model, write_gguf, write_hf
from support.models import NO_MODEL
from support.tiny_tokenizer import byte_letters
from text_support import MODELS, LazyArray, byte_level_metadata, read_metadata, strings
from tonnage.core.footprint import TextFacts, tokenizer_bytes
from tonnage.text.facts import facts_of_folder, facts_of_gguf
from tonnage.text.tokenizer import Tokenizer

MIB = 1 << 20
LETTERS = "abcdefghijklmnopqrst"


def dense_vocabulary() -> tuple[list[str], list[tuple[str, str]]]:
    """Words of up to four letters with every merge that makes them: 2 per token, as Llama 3 has."""
    words = ["".join(w) for n in (2, 3) for w in product(LETTERS, repeat=n)]
    words += ["".join(w) for w in product(LETTERS, repeat=4)][:120_000]
    merges = [(word[:i], word[i:]) for word in words for i in (1, 2)[: len(word) - 1]]
    return byte_letters() + words, merges


def close(facts: TextFacts | None, tokenizer: Tokenizer, slack_bytes: int) -> bool:
    assert facts is not None
    return tokenizer.nbytes <= tokenizer_bytes(facts) <= tokenizer.nbytes + slack_bytes


def write_tokenizer(folder: Path, merges: list[object], vocab: dict[str, int], **how) -> Path:
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    parts = {
        "added_tokens": [],
        "pre_tokenizer": {**level, "use_regex": True},
        "decoder": level,
        "model": {"type": "BPE", "vocab": vocab, "merges": merges},
    }
    (folder / "tokenizer.json").write_text(json.dumps(parts, **how))
    return folder


def test_two_merges_per_token_are_planned_for_in_both_containers(tmp_path):
    tokens, merges = dense_vocabulary()
    assert len(tokens) > 128_000
    assert len(merges) > 240_000
    metadata = byte_level_metadata(tokens, merges, "llama-bpe")
    facts = facts_of_gguf(metadata)
    assert facts.num_merges == len(merges)
    assert close(facts, Tokenizer.from_gguf(metadata), MIB // 4)
    vocab = {token: i for i, token in enumerate(tokens)}
    for name, pairs, how in (
        ("old", [f"{a} {b}" for a, b in merges], {}),
        ("new", [list(pair) for pair in merges], {"indent": 2, "ensure_ascii": False}),
    ):
        folder = tmp_path / name
        folder.mkdir()
        facts = facts_of_folder(write_tokenizer(folder, pairs, vocab, **how))
        assert (facts.num_tokens, facts.num_merges) == (len(tokens), len(merges))
        assert close(facts, Tokenizer.from_folder(folder), 4 * MIB)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_in_both_containers(family, tmp_path):
    model = tiny_model(tiny_config(family))
    metadata = read_metadata(write_gguf(tmp_path / "tiny.gguf", model))
    facts = facts_of_gguf(metadata)
    assert not facts.has_template
    assert close(facts, Tokenizer.from_gguf(metadata), MIB // 8)
    folder = write_hf(tmp_path / "hf", model)
    facts = facts_of_folder(folder)
    assert not facts.has_template
    assert close(facts, Tokenizer.from_folder(folder), MIB // 8)
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert facts_of_folder(folder).has_template


def test_a_scored_vocabulary_has_no_merges_but_scores():
    tokens = [
        "<unk>",
        *(f"<0x{b:02X}>" for b in range(256)),
        "\u2581",
        *map(chr, range(0x4E00, 0x9000)),
    ]
    types = [2, *([6] * 256), *([1] * (len(tokens) - 257))]
    metadata = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": strings(tokens),
        "tokenizer.ggml.token_type": LazyArray(array("i", types).tobytes(), len(types)),
        "tokenizer.ggml.scores": LazyArray(bytes(4 * len(tokens)), len(tokens)),
        "tokenizer.ggml.unknown_token_id": 0,
    }  # fmt: skip
    facts = facts_of_gguf(metadata)
    assert (facts.scored, facts.num_merges) == (True, 0)
    assert close(facts, Tokenizer.from_gguf(metadata), MIB // 8)


def test_texts_of_a_gguf_are_counted_to_the_byte():
    tokens = ["a", "bcd", "é", ""]
    plain = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": strings(tokens),
        "tokenizer.ggml.merges": strings(["a b", "b c", "c d"]),
    }
    assert facts_of_gguf(plain) == TextFacts(4, 3, 1 + 3 + 2)
    assert facts_of_gguf({**plain, "tokenizer.ggml.model": "llama"}) == TextFacts(
        4, 0, 6, scored=True
    )
    assert facts_of_gguf({**plain, "tokenizer.ggml.merges": "none"}) == TextFacts(4, 0, 6)
    for key in ("tokenizer.chat_template", "tokenizer.chat_template.tool_use"):
        assert facts_of_gguf({**plain, key: "{{ x }}"}) == TextFacts(4, 3, 6, has_template=True)
        assert facts_of_gguf({**plain, key: 3}) == TextFacts(4, 3, 6)


@pytest.mark.parametrize("how", [{"separators": (",", ":")}, {"indent": 1}, {}], ids=str)
def test_texts_of_a_folder_are_counted_as_they_are_written_less_what_a_member_is(tmp_path, how):
    """A member of the vocabulary has two quotes, a colon, a digit and a comma beside its text."""
    vocab = {"a": 0, "bcd": 1, "é": 2}
    folder = write_tokenizer(tmp_path, [["a", "bcd"], ["a", "a"]], vocab, **how)
    text = (folder / "tokenizer.json").read_bytes()
    begin = text.index(b"{", text.index(b'"vocab"'))
    span = text.index(b"}", begin) + 1 - begin
    facts = facts_of_folder(folder)
    assert facts == TextFacts(3, 2, span - 3 * 5, growing=True)
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert facts_of_folder(folder) == TextFacts(3, 2, span - 3 * 5, growing=True, has_template=True)


@pytest.mark.parametrize("end", ["", "\n"])
def test_texts_of_two_files_are_counted_too(tmp_path, end):
    """At most as many merges as there are lines, that of the version among them."""
    vocabulary = '{"a":0,"bcd":1,"\\"":2}'
    (tmp_path / "vocab.json").write_text(vocabulary)
    assert facts_of_folder(tmp_path) is None
    (tmp_path / "merges.txt").write_text(f"#version: 0.2\na b\nb c{end}")
    facts = facts_of_folder(tmp_path)
    assert facts == TextFacts(3, 3 + len(end), len(vocabulary) - 3 * 5, growing=True)
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")
    assert facts_of_folder(tmp_path).has_template


@pytest.mark.parametrize("merges", [["a b", "b c", "[ x"], [["a", "b"], ["b", "c"], ["[", "x"]]])
def test_merges_are_texts_or_pairs(tmp_path, merges):
    vocab = {letter: index for index, letter in enumerate("abcx[")}
    for how in ({}, {"indent": 4}, {"separators": (",", ":")}):
        assert facts_of_folder(write_tokenizer(tmp_path, merges, vocab, **how)).num_merges == 3
    assert facts_of_folder(write_tokenizer(tmp_path, [], vocab)).num_merges == 0


@pytest.mark.parametrize(("kind", "merges"), [("BPE", 1), (None, 1), ("WordPiece", 0)])
def test_only_bpe_has_merges(tmp_path, kind, merges):
    write_tokenizer(tmp_path, [["a", "b"]], {"a": 0, "b": 1})
    path = tmp_path / "tokenizer.json"
    parts = json.loads(path.read_text())
    parts["model"] = {**parts["model"], "type": kind}
    if kind is None:
        del parts["model"]["type"]
    path.write_text(json.dumps(parts))
    assert facts_of_folder(tmp_path).num_merges == merges
    del parts["model"]["merges"]
    path.write_text(json.dumps(parts))
    assert (facts_of_folder(tmp_path) is None) == bool(merges)


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(MODELS.glob("*.gguf")) or [None], ids=str)
def test_real_models(path):
    if path is None:
        pytest.skip(NO_MODEL)
    metadata = read_metadata(path)
    assert close(facts_of_gguf(metadata), Tokenizer.from_gguf(metadata), MIB // 2)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, unique=True))
def test_strings_are_counted_whatever_they_hold(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("count")
    write_tokenizer(folder, [["a", text] for text in texts], {t: i for i, t in enumerate(texts)})
    facts = facts_of_folder(folder)
    assert (facts.num_tokens, facts.num_merges) == (len(texts), len(texts))


def test_an_escape_over_the_border_of_two_reads_is_one(tmp_path, monkeypatch):
    monkeypatch.setattr("tonnage.text.facts._CHUNK_BYTES", 1)
    vocab = {'"': 0, "\\": 1, '\\"': 2, "a": 3}
    facts = facts_of_folder(write_tokenizer(tmp_path, ['\\ "', '" a', "a \\"], vocab))
    assert (facts.num_tokens, facts.num_merges) == (4, 3)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"model": 3}', '{"model": {"vocab": {}}}'])
def test_what_is_no_tokenizer_tells_nothing(tmp_path, text):
    assert facts_of_folder(tmp_path) is None
    (tmp_path / "tokenizer.json").write_text(text)
    assert facts_of_folder(tmp_path) is None
    assert facts_of_gguf({"tokenizer.ggml.tokens": text}) is None
