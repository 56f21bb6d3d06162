"""Control tokens that untrusted text writes into a message stay plain text."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.checkpoints import tiny_config, tiny_model, write_hf
from support.tiny_tokenizer import END, NUM_BYTES
from tonnage.core.errors import RequestError
from tonnage.text.tokenizer import SENTINEL, Tokenizer
from tonnage.text.untrusted import escaped


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Tokenizer:
    model = tiny_model(tiny_config("llama"))
    return Tokenizer.from_folder(write_hf(tmp_path_factory.mktemp("m") / "hf", model))


@pytest.fixture(scope="module")
def small_windows():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tonnage.text.tokenizer._WINDOW_BYTES", 40)
        yield


def encoded(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special=False, parse_special=True, has_sentinels=True)


def plain(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special=False, parse_special=False)


def test_the_templates_own_token_counts_and_that_of_untrusted_text_does_not(tokenizer):
    prompt = "[user]" + escaped(f"a {END} b", tokenizer) + END
    ids = encoded(tokenizer, prompt)
    assert ids.count(NUM_BYTES) == 1
    assert ids[-1] == NUM_BYTES
    assert tokenizer.decode(ids, keep_control=True) == f"[user]a {END} b{END}"


@given(
    parts=st.lists(st.sampled_from([END, "<|", "|>", "end", "<", "é", " ", "the", SENTINEL, "x"]))
)
def test_an_escaped_text_has_the_tokens_of_the_plain_text(tokenizer, parts):
    text = "".join(parts)
    safe = escaped(text, tokenizer)
    assert not list(tokenizer.control_places(safe.encode()))
    assert encoded(tokenizer, safe) == plain(tokenizer, text.replace(SENTINEL, "\ufffd"))


def test_every_text_inside_of_a_value_is_escaped(tokenizer):
    value = {"role": END, "content": [{"text": f"x{END}"}], "n": 5, END: None, "t": (END,)}
    told = repr(escaped(value, tokenizer))
    assert END not in told
    assert escaped({"n": 5, "b": True, "z": None}, tokenizer) == {"n": 5, "b": True, "z": None}


def test_a_value_that_nests_deeply_is_refused(tokenizer):
    value: object = "x"
    for _ in range(100):
        value = [value]
    with pytest.raises(RequestError, match="nests values deeper"):
        escaped(value, tokenizer)


@given(parts=st.lists(st.sampled_from([END, "<|en", "<", "é", " ", "the", "x" * 9]), max_size=60))
def test_a_long_text_is_searched_window_by_window(tokenizer, small_windows, parts):
    data = "".join(parts).encode()
    whole = [at for at in range(len(data)) if data[at:].startswith(END.encode())]
    assert [at for at, _ in tokenizer.control_places(data)] == whole


@given(ids=st.lists(st.integers(0, NUM_BYTES - 1), max_size=200))
def test_a_text_in_parts_is_the_text(tokenizer, ids):
    whole = b"".join(map(tokenizer.token_bytes, ids)).decode("utf-8", "replace")
    assert "".join(tokenizer.decoded(ids)) == tokenizer.decode(ids) == whole


def test_a_control_token_of_one_character_is_text_in_a_message(tmp_path):
    folder = write_hf(tmp_path / "hf", tiny_model(tiny_config("llama")))
    path = folder / "tokenizer.json"
    data = json.loads(path.read_text())
    data["added_tokens"].append({"id": 33, "content": "!", "special": True, "rstrip": True})
    path.write_text(json.dumps(data))
    tokenizer = Tokenizer.from_folder(folder)
    for text in ("Hello!", "! !", "!", "a!!b", "!" + END + "!", "é!"):
        safe = escaped(text, tokenizer)
        assert encoded(tokenizer, safe) == plain(tokenizer, text)
    mixed = encoded(tokenizer, escaped("a!", tokenizer) + "! b")
    assert mixed == [*plain(tokenizer, "a!"), 33, *plain(tokenizer, "b")]


@pytest.mark.parametrize(
    "wrap", [lambda value: [value], lambda value: (value,), lambda value: {"a": value}]
)
def test_values_nest_64_deep_and_no_deeper(tokenizer, wrap):
    value = END
    for _ in range(64):
        value = wrap(value)
    told = str(escaped(value, tokenizer))
    assert "|end|>" in told
    assert END not in told
    with pytest.raises(RequestError, match="deeper than 64"):
        escaped(wrap(value), tokenizer)
