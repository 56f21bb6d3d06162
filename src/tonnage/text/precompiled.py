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


# What joins without a mark between: Hangul syllables, pictures (Extended_Pictographic) round a
# joiner, consonants round a virama (Indic_Conjunct_Break). All of these take more than five bytes.
_L, _V, _T = (
    "\u1100-\u115f\ua960-\ua97c",
    "\u1160-\u11a7\ud7b0-\ud7c6",
    "\u11a8-\u11ff\ud7cb-\ud7fb",
)
_OPEN = "".join(map(chr, range(0xAC00, 0xD7A4, 28)))
_HANGUL = f"[{_L}][{_L}{_V}\uac00-\ud7a3]|[{_OPEN}{_V}][{_V}{_T}]|[\uac00-\ud7a3{_T}][{_T}]"
_PICTURES = (
    "\xa9\xae\u203c\u2049\u2122\u2139\u2194-\u2199\u21a9\u21aa\u231a\u231b\u2328\u2388\u23cf"
    "\u23e9-\u23f3\u23f8-\u23fa\u24c2\u25aa\u25ab\u25b6\u25c0\u25fb-\u25fe\u2600-\u2605\u2607-\u2612"
    "\u2614-\u2685\u2690-\u2705\u2708-\u2712\u2714\u2716\u271d\u2721\u2728\u2733\u2734\u2744\u2747\u274c"
    "\u274e\u2753-\u2755\u2757\u2763-\u2767\u2795-\u2797\u27a1\u27b0\u27bf\u2934\u2935\u2b05-\u2b07"
    "\u2b1b\u2b1c\u2b50\u2b55\u3030\u303d\u3297\u3299\U0001f000-\U0001f0ff\U0001f10d-\U0001f10f"
    "\U0001f12f\U0001f16c-\U0001f171\U0001f17e\U0001f17f\U0001f18e\U0001f191-\U0001f19a"
    "\U0001f1ad-\U0001f1e5\U0001f201-\U0001f20f\U0001f21a\U0001f22f\U0001f232-\U0001f23a"
    "\U0001f23c-\U0001f23f\U0001f249-\U0001f3fa\U0001f400-\U0001f53d\U0001f546-\U0001f64f"
    "\U0001f680-\U0001f6ff\U0001f774-\U0001f77f\U0001f7d5-\U0001f7ff\U0001f90c-\U0001f93a"
    "\U0001f93c-\U0001f945\U0001f947-\U0001faff\U0001fc00-\U0001fffd"
)
_CONSONANTS = (
    "\u0915-\u0939\u0958-\u095f\u0978-\u097f\u0995-\u09a8\u09aa-\u09b0\u09b2\u09b6-\u09b9\u09dc\u09dd"
    "\u09df\u09f0\u09f1\u0a95-\u0aa8\u0aaa-\u0ab0\u0ab2\u0ab3\u0ab5-\u0ab9\u0af9\u0b15-\u0b28"
    "\u0b2a-\u0b30\u0b32\u0b33\u0b35-\u0b39\u0b5c\u0b5d\u0b5f\u0b71\u0c15-\u0c28\u0c2a-\u0c39"
    "\u0c58-\u0c5a\u0d15-\u0d3a"
)
_VIRAMAS = "\u094d\u09cd\u0acd\u0b4d\u0c4d\u0d4d"


def _clusters() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return what matches several characters that are one to a reader and may take few bytes.

    And what is found wherever there are any.
    """
    points = map(chr, range(0x300, sys.maxunicode + 1))
    marks = [c for c in points if unicodedata.category(c)[0] == "M" and not _APART.match(c)]
    joined = "".join(marks) + _JOINED
    # A bound keeps a run of marks from being looked at once for each of them.
    between = f"[{''.join(c for c in marks if unicodedata.category(c) != 'Mc')}\u200d]{{0,4}}"
    conjunct = f"[{_CONSONANTS}](?:{between}[{_VIRAMAS}]{between}[{_CONSONANTS}])+"
    pictures = f"[{_PICTURES}](?:{between}\u200d[{_PICTURES}])+"
    base = f"(?:{_HANGUL}|{conjunct}|[^{_CONTROLS}{joined}])"
    clusters = re.compile(
        f"(\\r\\n|{_PREPENDED}*{pictures}[{joined}]*|(?:{_PREPENDED}*{base})?[{joined}]+"
        f"|{_PREPENDED}+[^{_CONTROLS}{joined}])"
    )
    return clusters, re.compile(f"\\r\\n|[{joined}]|{_PREPENDED}")


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
    forms, (clusters, signs) = _Forms(trie), _clusters()

    def of_cluster(cluster: str) -> str:
        if len(cluster.encode()) <= _MAX_CLUSTER_BYTES:
            form = trie.shortest(cluster)
            if form is not None:
                return form
        return cluster.translate(forms)

    def of_line(line: str) -> str:
        if not signs.search(line):
            return line.translate(forms)
        parts = clusters.split(line)
        parts[::2] = [part.translate(forms) for part in parts[::2]]
        parts[1::2] = [of_cluster(part) for part in parts[1::2]]
        return "".join(parts)

    def apply(text: str) -> tuple[str, bool]:
        # No cluster goes on behind a line break.
        normal = "".join(map(of_line, re.findall(r"[^\n]*\n|[^\n]+", text)))
        return normal, bool(normal) or not text

    return apply
