"""Offsets and entries of OpenAI's legacy log probabilities (platform.openai.com, completions)."""

from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from tonnage.engine.generation import TokenLogprob
from tonnage.server.generation.logprobs import TextLogprobs, TextOffsets


@dataclass
class Pieces:
    """A vocabulary of these tokens; those of `hidden` are not shown."""

    pieces: list[bytes]
    hidden: tuple[int, ...] = ()

    def token_bytes(self, token_id: int) -> bytes:
        return self.pieces[token_id]

    def is_control(self, token_id: int) -> bool:
        return token_id in self.hidden


GRIN, SUN = "\N{GRINNING FACE}".encode(), "\N{CJK UNIFIED IDEOGRAPH-65E5}".encode()


def bytes_of(data: bytes) -> list[bytes]:
    return [bytes([byte]) for byte in data]


@pytest.mark.parametrize(
    ("pieces", "offsets"),
    [
        ([b"a", b"bc", b"d"], [0, 1, 3]),
        # Letters of four and three tokens, as the text has them.
        ([*bytes_of(GRIN), b" cat", b" -", *bytes_of(SUN), b" dog"],
         [0, 0, 0, 0, 1, 5, 7, 7, 7, 8]),
        ([b"x" + GRIN[:2], GRIN[2:] + b"y", b"z"], [0, 1, 3]),
        ([GRIN + SUN[:1], SUN[1:], b"!"], [0, 1, 2]),
        # What is no UTF-8 reads as one replacement for each part of a letter.
        ([GRIN[:2], b"a", b"b"], [0, 1, 2]),
        ([b"\xff", b"\xff", b"c"], [0, 1, 2]),
        ([b"", b"a", b"", b"b"], [0, 0, 1, 1]),
    ],
)  # fmt: skip
def test_a_token_begins_at_its_letter(pieces: list[bytes], offsets: list[int]) -> None:
    told = TextOffsets(Pieces(pieces))  # type: ignore[arg-type]
    assert [told.push(number) for number in range(len(pieces))] == offsets
    shifted = TextOffsets(Pieces(pieces), 10)  # type: ignore[arg-type]
    assert [shifted.push(number) for number in range(len(pieces))] == [10 + o for o in offsets]
    text = b"".join(pieces).decode("utf-8", "replace")
    assert offsets[-1] <= len(text)


def entry(token: int, logprob: float, *top: tuple[int, float]) -> TokenLogprob:
    return TokenLogprob(token, logprob, top)


def written(writer: TextLogprobs, *entries: TokenLogprob) -> dict[str, Any]:
    return msgspec.json.decode(msgspec.json.encode(writer.write(entries)))


def test_a_prompt_that_is_echoed_comes_first_and_its_first_token_has_none() -> None:
    tokenizer = Pieces([b"<s>", b"a", b"b", b"c"], hidden=(0,))
    writer = TextLogprobs(tokenizer, 1, [0, 1, 2], echo_chars=2)  # type: ignore[arg-type]
    first = written(writer, entry(1, -1.0, (2, -0.5)))
    assert first == {
        "tokens": ["<s>", "a"],
        "token_logprobs": [None, -1.0],
        "top_logprobs": [None, {"b": -0.5, "a": -1.0}],
        "text_offset": [0, 0],
    }
    rest = written(writer, entry(2, -2.0, (2, -2.0)), entry(3, float("-inf"), (1, -0.1)))
    assert rest["text_offset"] == [1, 2]
    assert rest["token_logprobs"] == [-2.0, -9999.0]
    assert rest["top_logprobs"] == [{"b": -2.0}, {"a": -0.1, "c": -9999.0}]


def test_of_tokens_that_look_alike_the_likeliest_is_told() -> None:
    writer = TextLogprobs(Pieces([b"\xf0", b"\xf1", b"a"]), 2)  # type: ignore[arg-type]
    told = written(writer, entry(1, -3.0, (0, -0.25), (1, -3.0)))
    assert told["top_logprobs"] == [{"\ufffd": -0.25}]
