"""SentencePiece's precompiled normalizer: a double-array trie from characters to their forms.

The format is Darts' (darts-clone): 32-bit units, behind which the new texts lie, each ended by a
zero byte.
"""

import base64
import binascii
import re
import struct
import sys
import unicodedata
from collections.abc import Callable

from tonnage.core.errors import TokenizerError

_MAX_BYTES = 16 << 20
# Longer clusters are looked up character by character.
_MAX_CLUSTER_BYTES = 5


# What goes on with the character before (Grapheme_Cluster_Break Extend, ZWJ and SpacingMark of
# Unicode Annex 29) beside the marks, and the marks that do not.
_JOINED = "\u0e33\u0eb3\u200c\u200d\uff9e\uff9f\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f"
_APART = re.compile(
    "[\u102b\u102c\u1038\u1062-\u1064\u1067-\u106d\u1083\u1087-\u108c\u108f\u109a-\u109c"
    "\u1a61\u1a63\u1a64\uaa7b\uaa7d\U00011720\U00011721]"
)
_PREPENDED = "[\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2]"
_CONTROLS = (
    "\\x00-\\x1f\\x7f-\\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
)


def _clusters() -> re.Pattern[str]:
    """Return what matches several characters that are one to a reader and may take few bytes."""
    points = map(chr, range(0x300, sys.maxunicode + 1))
    marks = [c for c in points if unicodedata.category(c)[0] == "M" and not _APART.match(c)]
    joined = "".join(marks) + _JOINED
    base = f"{_PREPENDED}*[^{_CONTROLS}{joined}]"
    return re.compile(f"(\r\n|(?:{base})?[{joined}]+|{_PREPENDED}+[^{_CONTROLS}{joined}])")


class _Trie:
    def __init__(self, data: bytes) -> None:
        if len(data) < 4:
            raise TokenizerError("'precompiled_charsmap' of tokenizer.json ends early.")
        (size,) = struct.unpack_from("<I", data)
        if size % 4 or size < 4 or size > len(data) - 4:
            raise TokenizerError(
                f"'precompiled_charsmap' of tokenizer.json has {len(data)} bytes and names a "
                f"trie of {size}."
            )
        self._units = memoryview(data)[4 : 4 + size].cast("I")
        self._texts = data[4 + size :]

    def shortest(self, text: str) -> str | None:
        """Return what stands for the shortest beginning of `text` that is known."""
        units, place = self._units, _offset(self._units[0])
        for byte in text.encode():
            place ^= byte
            if not byte or place >= len(units) or units[place] & 0x800000FF != byte:
                return None
            unit = units[place]
            place ^= _offset(unit)
            if unit >> 8 & 1 and place < len(units):
                begin = units[place] & 0x7FFFFFFF
                return self._texts[begin : self._texts.find(b"\0", begin)].decode(
                    "utf-8", "replace"
                )
        return None


def _offset(unit: int) -> int:
    return unit >> 10 << ((unit & 1 << 9) >> 6)


class _Forms(dict[int, str]):
    """What stands for each character, looked up as they come."""

    def __init__(self, trie: _Trie) -> None:
        super().__init__()
        self._trie = trie

    def __missing__(self, code_point: int) -> str:
        char = chr(code_point)
        form = self._trie.shortest(char)
        self[code_point] = char if form is None else form
        return self[code_point]


def precompiled(charsmap: object) -> Callable[[str], tuple[str, bool]]:
    """Return the normalizer of a `precompiled_charsmap`; raises TokenizerError."""
    if not isinstance(charsmap, str) or len(charsmap) > _MAX_BYTES:
        raise TokenizerError(f"'precompiled_charsmap' is no text of at most {_MAX_BYTES:,} bytes.")
    try:
        trie = _Trie(base64.b64decode(charsmap, validate=True))
    except binascii.Error as error:
        raise TokenizerError(f"'precompiled_charsmap' is not valid base64: {error}.") from None
    forms, clusters = _Forms(trie), _clusters()

    def of_cluster(cluster: str) -> str:
        if len(cluster.encode()) <= _MAX_CLUSTER_BYTES:
            form = trie.shortest(cluster)
            if form is not None:
                return form
        return cluster.translate(forms)

    def apply(text: str) -> tuple[str, bool]:
        parts = clusters.split(text)
        parts[::2] = [part.translate(forms) for part in parts[::2]]
        parts[1::2] = [of_cluster(part) for part in parts[1::2]]
        first = next((part for part in parts if part), "")
        return "".join(parts), bool(first) or not text

    return apply
