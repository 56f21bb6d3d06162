"""The decoders of a tokenizer.json, for those that the native core does not do itself.

A decoder is a chain of functions of one token, which know whether it is the first of its text and
nothing else: so a text can be decoded as its tokens come.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from tonnage._native import pattern_pieces
from tonnage.core.errors import TokenizerError
from tonnage.text.byte_letters import BYTES
from tonnage.text.steps import refuse

_BYTE = re.compile(rb"<0x([0-9A-Fa-f]{2})>")
_CLEANED = (
    (b" .", b"."), (b" ?", b"?"), (b" !", b"!"), (b" ,", b","), (b" ' ", b"'"), (b" n't", b"n't"),
    (b" 'm", b"'m"), (b" do not", b" don't"), (b" 's", b"'s"), (b" 've", b"'ve"), (b" 're", b"'re"),
)  # fmt: skip

# The bytes that a token stands for, of its bytes and its place in a text; only 0 is special.
ByteStep = Callable[[bytes, int], bytes]


class Decoder:
    """The parts of a decoder one after the other."""

    def __init__(self, parts: Sequence[ByteStep]) -> None:
        """Take the parts; strips_space of `read_decoder` stays with the caller."""
        self._parts = tuple(parts)

    def __call__(self, token: bytes, place: int) -> bytes:
        """Return the bytes that a token of the vocabulary stands for."""
        for part in self._parts:
            token = part(token, place)
        return token


def read_decoder(parts: Sequence[dict[str, Any]]) -> tuple[Decoder, bool]:
    """Return what the parts do to a token, and whether a text loses the space in front of it.

    Raises TokenizerError for what is not implemented.
    """
    made: list[ByteStep] = []
    is_fused = strips = False
    for part in parts:
        if part["type"] == "Fuse":
            is_fused = True
        elif is_fused and part["type"] == "Strip":
            if (
                part["content"] != " "
                or strips
                or (part["start"], part["stop"]) not in ((1, 0), (0, 0))
            ):
                raise refuse("decoder behind Fuse", part)
            strips = part["start"] == 1
        elif is_fused and not _is_of_one_character(part):
            raise refuse("decoder behind Fuse", part)
        else:
            made.append(_part(part))
    return Decoder(made if parts else [_spaced]), strips


def _is_of_one_character(part: dict[str, Any]) -> bool:
    return part["type"] == "Replace" and len(part["pattern"].get("String", "")) == 1


def _part(part: dict[str, Any]) -> ByteStep:
    match part["type"]:
        case "ByteLevel":
            return _byte_level
        case "ByteFallback":
            return _byte_fallback
        case "Replace":
            return _replace(part["pattern"], part["content"].encode())
        case "Strip":
            return _strip(part["content"].encode(), part["start"], part["stop"])
        case "Metaspace":
            legacy = "always" if part.get("add_prefix_space", True) else "never"
            prepends = part.get("prepend_scheme", legacy) != "never"
            return _metaspace(part.get("replacement", "\u2581").encode(), prepends=prepends)
        case "WordPiece":
            return _word_piece(part.get("prefix", "##").encode(), cleans=part.get("cleanup", True))
        case _:
            raise refuse("decoder", part)


def _spaced(token: bytes, place: int) -> bytes:
    """Tokens without a decoder are joined by spaces."""
    return token if place == 0 else b" " + token


def _byte_level(token: bytes, place: int) -> bytes:
    letters = token.decode("utf-8", "replace")
    found = [BYTES.get(letter, -1) for letter in letters]
    return token if -1 in found else bytes(found)


def _byte_fallback(token: bytes, place: int) -> bytes:
    found = _BYTE.fullmatch(token)
    return bytes([int(found[1], 16)]) if found else token


def _replace(pattern: dict[str, str], content: bytes) -> ByteStep:
    if "String" in pattern:
        old = pattern["String"].encode()
        return lambda token, place: token.replace(old, content) if old else token
    source = pattern["Regex"]
    pattern_pieces(source, b"")  # a wrong one fails when the file is read

    def apply(token: bytes, place: int) -> bytes:
        parts, at = [], 0
        for begin, end in pattern_pieces(source, token):
            parts += [token[at:begin], content]
            at = end
        return b"".join([*parts, token[at:]])

    return apply


def _strip(content: bytes, start: int, stop: int) -> ByteStep:
    if not content:
        raise TokenizerError("A decoder of tokenizer.json strips an empty text.")

    def apply(token: bytes, place: int) -> bytes:
        for _ in range(start):
            token = token.removeprefix(content)
        for _ in range(stop):
            token = token.removesuffix(content)
        return token

    return apply


def _metaspace(mark: bytes, *, prepends: bool) -> ByteStep:
    def apply(token: bytes, place: int) -> bytes:
        return token.replace(mark, b"" if place == 0 and prepends else b" ")

    return apply


def _word_piece(prefix: bytes, *, cleans: bool) -> ByteStep:
    def apply(token: bytes, place: int) -> bytes:
        if place > 0:
            goes_on = token.startswith(prefix)
            token = token.removeprefix(prefix) if goes_on else b" " + token
        for old, new in _CLEANED if cleans else ():
            token = token.replace(old, new)
        return token

    return apply
