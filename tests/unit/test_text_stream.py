"""Streaming: whole characters, and an end at stop strings."""

import pytest

from text_support import HARD_TEXTS, byte_level_metadata, trained
from tonnage.core.errors import RequestError, TokenizerError
from tonnage.server.generation.call_formats import control_marks
from tonnage.text.stream import MAX_STOP_CHARS, MAX_STOPS, Detokenizer, StopStrings
from tonnage.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    tokens, merges = trained(HARD_TEXTS, "gpt-2", 300)
    types = [1] * len(tokens) + [3]
    return Tokenizer.from_gguf(byte_level_metadata([*tokens, "<|im_end|>"], merges, "gpt-2", types))


def test_control_tokens_around_calls_are_found():
    tokens, merges = trained(HARD_TEXTS, "gpt-2", 300)
    marks = ["[TOOL_CALLS]", "<tool_call>", "</s>"]
    types = [1] * len(tokens) + [3, 4, 3]  # control, user-defined, control
    metadata = byte_level_metadata([*tokens, *marks], merges, "gpt-2", types)
    assert control_marks(Tokenizer.from_gguf(metadata)) == {len(tokens)}


@pytest.mark.parametrize("text", HARD_TEXTS)
def test_pieces_join_to_the_text(tokenizer, text):
    stream = Detokenizer(tokenizer)
    pieces = [
        stream.push(i) for i in tokenizer.encode(text, add_special=False, parse_special=False)
    ]
    assert "".join(pieces) + stream.flush() == text
    assert "\ufffd" not in "".join(pieces)


def test_a_character_comes_when_it_is_whole(tokenizer):
    stream = Detokenizer(tokenizer)
    by_byte = {tokenizer.token_bytes(i): i for i in range(256)}
    shown = [stream.push(by_byte[bytes([b])]) for b in "😀".encode()]
    assert shown == ["", "", "", "😀"]
    assert stream.push(by_byte[b"\xf0"]) == ""
    assert stream.push(by_byte[b"a"]) == "\ufffda"
    assert stream.push(by_byte[b"\xe4"]) == ""
    assert stream.flush() == "\ufffd"


def test_control_tokens_show_only_when_kept(tokenizer):
    end = tokenizer.token_id("<|im_end|>")
    assert Detokenizer(tokenizer).push(end) == ""
    assert Detokenizer(tokenizer, keep_control=True).push(end) == "<|im_end|>"
    assert Detokenizer(tokenizer, shown={end}).push(end) == "<|im_end|>"
    assert Detokenizer(tokenizer, shown={end - 1}).push(end) == ""
    with pytest.raises(TokenizerError, match="outside"):
        Detokenizer(tokenizer).push(end + 1)


def test_a_stop_string_ends_the_text(tokenizer):
    stream = Detokenizer(tokenizer, ["\nUser:", "###"])
    ids = tokenizer.encode("hi # there\nUser: no", add_special=False, parse_special=False)
    assert "".join(stream.push(i) for i in ids) + stream.flush() == "hi # there"
    assert stream.stopped_at == "\nUser:"


@pytest.mark.parametrize(
    ("stop", "shown"),
    [
        ("<|im_end|>", "ab"),
        ("b<|im_end|>", "a"),
        ("<|im_end|>c", "ab"),
        ("b<|im_end|>c", "a"),
        ("im_end", "ab"),
        ("<|im_end|>d", "abcd"),
        ("abc", "abcd"),
    ],
)
def test_a_stop_string_may_be_a_control_token_or_go_through_one(tokenizer, stop, shown):
    # As transformers' `stop_strings`: "ab<|im_end|>cd" is what the tokens say.
    stream = Detokenizer(tokenizer, [stop])
    ids = tokenizer.encode("ab<|im_end|>cd", add_special=False, parse_special=True)
    assert "".join(stream.push(i) for i in ids) + stream.flush() == shown
    assert stream.stopped_at == (None if shown == "abcd" else stop)


def test_a_possible_beginning_is_held_back():
    stops = StopStrings(["abc"])
    assert stops.push("xab") == "x"
    assert stops.push("d") == "abd"
    assert stops.push("ab") == ""
    assert stops.flush() == "ab"
    assert stops.flush() == ""
    assert stops.stopped_at is None


def test_as_many_and_as_long_stop_strings_as_are_allowed():
    StopStrings(["x"] * MAX_STOPS)
    longest = StopStrings(["y" * MAX_STOP_CHARS])
    assert longest.push("a" + "y" * MAX_STOP_CHARS) == "a"
    assert longest.stopped_at == "y" * MAX_STOP_CHARS


@pytest.mark.parametrize("stops", [[""], ["x" * 2000], ["a"] * 100])
def test_stop_strings_out_of_range_are_refused(stops):
    with pytest.raises(RequestError, match="stop string"):
        StopStrings(stops)
