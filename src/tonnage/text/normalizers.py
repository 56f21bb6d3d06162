"""The normalizers of a tokenizer.json: what is done to a text before it is cut.

Each is a function of a text that returns the new text, and whether it still begins with what the
text began with. They do what the package tokenizers does, bit for bit.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tonnage._native import pattern_pieces
from tonnage.core.errors import TokenizerError
from tonnage.text.byte_letters import LETTERS
from tonnage.text.normal_form import normalize
from tonnage.text.steps import refuse

Normalizer = Callable[[str], tuple[str, bool]]

# White_Space of Unicode; str.strip takes four control characters more.
_SPACES = "\t\n\x0b\x0c\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_LEADING = re.compile(f"[{_SPACES}]+")
_TRAILING = re.compile(f"[{_SPACES}]+\\Z")
_NMT_REMOVED = re.compile("[\x01-\x08\x0b\x0e-\x1f\x7f\x8f\x9f]")
_NMT_SPACES = re.compile("[\t\n\x0c\r\u1680\u200b-\u200f\u2028\u2029\u2581\ufeff\ufffd]")
_CHINESE = re.compile(
    "([\u4e00-\u9fff\u3400-\u4dbf\U00020000-\U0002a6df\U0002a700-\U0002b73f\U0002b740-\U0002b81f"
    "\U0002b920-\U0002ceaf\uf900-\ufaff\U0002f800-\U0002fa1f])"
)


class _PerCharacter(dict[int, str]):
    """A table for `str.translate` that is filled as characters come."""

    def __init__(self, new: Callable[[str], str]) -> None:
        super().__init__()
        self._new = new

    def __missing__(self, code_point: int) -> str:
        found = self[code_point] = self._new(chr(code_point))
        return found


def _translated(table: dict[int, str]) -> Normalizer:
    def apply(text: str) -> tuple[str, bool]:
        return text.translate(table), not text or bool(text[0].translate(table))

    return apply


def lowercase() -> Normalizer:
    """Character by character: a final sigma is none."""
    return _translated(_PerCharacter(str.lower))


def strip_accents() -> Normalizer:
    """Take out the marks."""
    is_mark = unicodedata.category
    return _translated(_PerCharacter(lambda c: "" if is_mark(c).startswith("M") else c))


def nmt() -> Normalizer:
    """Control characters out, odd spaces to spaces."""

    def new(char: str) -> str:
        return "" if _NMT_REMOVED.match(char) else " " if _NMT_SPACES.match(char) else char

    return _translated(_PerCharacter(new))


def byte_letters() -> Normalizer:
    """Bytes to the letters of the byte alphabet."""
    return _translated(_PerCharacter(lambda c: "".join(LETTERS[b] for b in c.encode())))


def normal_form(form: str) -> Normalizer:
    """A normal form of Unicode."""
    return lambda text: (normalize(text, form), True)


def strip(*, left: bool, right: bool) -> Normalizer:
    """Take white space off the ends."""

    def apply(text: str) -> tuple[str, bool]:
        begin = found.end() if left and (found := _LEADING.match(text)) else 0
        text = text[begin:]
        return (_TRAILING.sub("", text) if right else text), begin == 0

    return apply


def prepend(prefix: str) -> Normalizer:
    """Put `prefix` in front, but of nothing."""
    return lambda text: (prefix + text if text else text, True)


def replace_text(old: str, new: str) -> Normalizer:
    """Replace one text by another."""
    return lambda text: (text.replace(old, new) if old else text, bool(new) or text[:1] != old[:1])


def replace_pattern(pattern: str, new: str) -> Normalizer:
    """Replace what a pattern of the pre-tokenizers matches."""
    pattern_pieces(pattern, b"")  # a wrong one fails when the file is read
    content = new.encode()

    def apply(text: str) -> tuple[str, bool]:
        data = text.encode()
        parts, at = [], 0
        matches = pattern_pieces(pattern, data)
        for begin, end in matches:
            parts += [data[at:begin], content]
            at = end
        kept = bool(content) or not matches or matches[0][0] > 0
        return b"".join([*parts, data[at:]]).decode(), kept

    return apply


def normalizer_of(parts: Sequence[dict[str, Any]]) -> Normalizer | None:
    """Return what normalizers of tokenizer.json do one after the other, None for none of them.

    Raises TokenizerError for one that is not implemented.
    """
    try:
        made = [one for part in parts for one in _made(part)]
    except (AttributeError, TypeError, KeyError) as error:
        raise TokenizerError(f"A normalizer of tokenizer.json is malformed: {error}.") from None
    return Chain(made) if made else None


def _made(part: dict[str, Any]) -> Iterable[Normalizer]:
    match part["type"]:
        case "Lowercase":
            return [lowercase()]
        case "StripAccents":
            return [strip_accents()]
        case "Nmt":
            return [nmt()]
        case "ByteLevel":
            return [byte_letters()]
        case "Strip":
            left, right = part.get("strip_left", True), part.get("strip_right", True)
            return [strip(left=left, right=right)]
        case "Prepend":
            return [prepend(part["prepend"])]
        case "Replace":
            pattern, new = part["pattern"], part["content"]
            if "String" in pattern:
                return [replace_text(pattern["String"], new)]
            return [replace_pattern(pattern["Regex"], new)]
        case "BertNormalizer":
            return bert(part)
        case "Precompiled":
            from tonnage.text.precompiled import precompiled

            return [precompiled(part["precompiled_charsmap"])]
        case "NFC" | "NFD" | "NFKC" | "NFKD":
            return [normal_form(part["type"])]
        case _:
            raise refuse("normalizer", part)


def _bert_cleaned(char: str) -> str:
    if char in "\t\n\r":
        return " "
    if char in "\x00\ufffd" or unicodedata.category(char) in ("Cc", "Cf", "Co"):
        return ""
    return " " if _LEADING.match(char) else char


@dataclass(frozen=True)
class Chain:
    """Normalizers one after the other."""

    parts: Sequence[Normalizer]

    def __call__(self, text: str) -> tuple[str, bool]:
        """Return the text, and whether it begins with what it began with."""
        kept = True
        for part in self.parts:
            text, same = part(text)
            kept = kept and same
        return text, kept


def bert(part: dict[str, Any]) -> Iterable[Normalizer]:
    """Yield the parts of BERT's normalizer."""
    lower = part.get("lowercase", True)
    accents = part.get("strip_accents")
    if part.get("clean_text", True):
        yield _translated(_PerCharacter(_bert_cleaned))
    if part.get("handle_chinese_chars", True):
        yield lambda text: (_CHINESE.sub(r" \1 ", text), True)
    if lower if accents is None else accents:
        yield normal_form("NFD")
        marks = unicodedata.category
        yield _translated(_PerCharacter(lambda c: "" if marks(c) == "Mn" else c))
    if lower:
        yield lowercase()
