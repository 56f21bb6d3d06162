"""Unicode normal forms as the reference tokenizers compute them."""

import re
import unicodedata
from itertools import groupby
from typing import Literal

from tonnage.core.errors import TokenizerError

_Form = Literal["NFC", "NFD", "NFKC", "NFKD"]
_FORMS: dict[str, _Form] = {"NFC": "NFC", "NFD": "NFD", "NFKC": "NFKC", "NFKD": "NFKD"}

_SHORT_CHARS = 256

# The reference's tables are of Unicode 9: marks that came later move and join nothing.
_LATER = re.compile(
    "(["
    "\u07fd\u0897-\u089f\u08ca-\u08d3\u09fe\u0c3c\u0d3b-\u0d3c\u0eba\u1715\u1abf-\u1ace"
    "\u1df6-\u1dfa\ua82c\U00010d24-\U00010d27\U00010d69-\U00010d6d\U00010eab-\U00010eac"
    "\U00010efd-\U00010eff"
    "\U00010f46-\U00010f50\U00010f82-\U00010f85\U00011070\U0001133b\U000113ce-\U000113d0\U0001145e"
    "\U00011839-\U0001183a\U0001193d-\U0001193e\U00011943\U000119e0\U00011a34\U00011a47\U00011a99"
    "\U00011d42\U00011d44-\U00011d45\U00011d97\U00011f41-\U00011f42\U0001612f\U00016ff0-\U00016ff1"
    "\U0001e08f\U0001e130-\U0001e136\U0001e2ae\U0001e2ec-\U0001e2ef\U0001e4ec-\U0001e4ef"
    "\U0001e5ee-\U0001e5ef"
    "\U000105c9\U000105d2\U000105da\U000105e4\U00011382-\U00011385\U0001138b\U0001138e"
    "\U00011390-\U00011391\U000113c2\U000113c5\U000113c7-\U000113c8\U00011935\U00011938\U0001611e"
    "\U00016121-\U00016129\U00016d63\U00016d67-\U00016d6a"
    # These became other forms of letters and digits later.
    "\u32ff\ua7f2-\ua7f4\uab69\U00010781-\U00010785\U00010787-\U000107b0\U000107b2-\U000107ba"
    "\U0001f16c\U0001fbf0-\U0001fbf9"
    "]+)"
)


def normalize(text: str, form: str) -> str:
    """Return `text` in the normal form "NFC", "NFD", "NFKC" or "NFKD" (Unicode Annex 15)."""
    known = _checked(form)
    # A line feed combines with nothing, and most lines need nothing.
    return "\n".join(_normalize_line(line, known) for line in text.split("\n"))


def _normalize_line(line: str, form: _Form) -> str:
    if line.isascii() or unicodedata.is_normalized(form, line):
        return line
    # Odd parts are the later characters.
    parts = _LATER.split(line)
    parts[::2] = [_normalize_part(part, form) for part in parts[::2]]
    return "".join(parts)


def _normalize_part(part: str, form: _Form) -> str:
    """Return `part` in the normal form, in a time that grows with its length alone.

    Python moves every mark past all that belong behind it, one by one and without letting go of the
    interpreter: half a megabyte of marks in a bad order would stop a server for a minute.
    """
    if len(part) > _SHORT_CHARS:
        part = _in_order(part, "NFKD" if form in ("NFKC", "NFKD") else "NFD")
    return unicodedata.normalize(form, part)


def _in_order(text: str, form: _Form) -> str:
    """Return `text` decomposed, its marks in canonical order (Unicode, D108 and D109)."""
    whole = text.translate({ord(char): unicodedata.normalize(form, char) for char in set(text)})
    ordered: list[str] = []
    for _, run in groupby(whole, lambda char: unicodedata.combining(char) > 0):
        ordered += sorted(run, key=unicodedata.combining)
    return "".join(ordered)


def is_normalized(text: str, form: str) -> bool:
    """Whether `text`, and so every part of it, is in the normal form already."""
    return unicodedata.is_normalized(_checked(form), text)


def _checked(form: str) -> _Form:
    if form not in _FORMS:
        raise TokenizerError(f"The normal form '{form}' is unknown; {', '.join(_FORMS)} are known.")
    return _FORMS[form]
