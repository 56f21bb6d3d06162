"""Control tokens that a stranger writes into a message stay plain text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.checkpoints import tiny_config, tiny_model, write_hf
from support.tiny_tokenizer import END, NUM_BYTES
from tonnage.core.errors import RequestError
from tonnage.text.stranger import broken
from tonnage.text.tokenizer import MARK, Tokenizer


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
    return tokenizer.encode(text, add_special=False, parse_special=True, has_marks=True)


def plain(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special=False, parse_special=False)


def test_the_templates_own_token_counts_and_the_strangers_does_not(tokenizer):
    prompt = "[user]" + broken(f"a {END} b", tokenizer) + END
    ids = encoded(tokenizer, prompt)
    assert ids.count(NUM_BYTES) == 1
    assert ids[-1] == NUM_BYTES
    assert tokenizer.decode(ids, keep_control=True) == f"[user]a {END} b{END}"


@given(parts=st.lists(st.sampled_from([END, "<|", "|>", "end", "<", "é", " ", "the", MARK, "x"])))
def test_a_broken_text_has_the_tokens_of_the_plain_text(tokenizer, parts):
    text = "".join(parts)
    escaped = broken(text, tokenizer)
    assert not list(tokenizer.control_places(escaped.encode()))
    assert encoded(tokenizer, escaped) == plain(tokenizer, text.replace(MARK, "\ufffd"))


def test_every_text_inside_of_a_value_is_broken(tokenizer):
    value = {"role": END, "content": [{"text": f"x{END}"}], "n": 5, END: None, "t": (END,)}
    told = repr(broken(value, tokenizer))
    assert END not in told
    assert broken({"n": 5, "b": True, "z": None}, tokenizer) == {"n": 5, "b": True, "z": None}


def test_a_value_that_nests_deeply_is_refused(tokenizer):
    value: object = "x"
    for _ in range(100):
        value = [value]
    with pytest.raises(RequestError, match="nests values deeper"):
        broken(value, tokenizer)


@given(parts=st.lists(st.sampled_from([END, "<|en", "<", "é", " ", "the", "x" * 9]), max_size=60))
def test_a_long_text_is_searched_window_by_window(tokenizer, small_windows, parts):
    data = "".join(parts).encode()
    whole = [at for at in range(len(data)) if data[at:].startswith(END.encode())]
    assert [at for at, _ in tokenizer.control_places(data)] == whole


@given(ids=st.lists(st.integers(0, NUM_BYTES - 1), max_size=200))
def test_a_text_in_parts_is_the_text(tokenizer, ids):
    whole = b"".join(map(tokenizer.token_bytes, ids)).decode("utf-8", "replace")
    assert "".join(tokenizer.decoded(ids)) == tokenizer.decode(ids) == whole
