"""The pre-tokenizers of a tokenizer.json as steps of the native core."""

from collections.abc import Iterator
from typing import Any

from tonnage.core.errors import TokenizerError
from tonnage.text.core_options import BEHAVIORS, Kind, Step, literal, split_step
from tonnage.text.pretokenizers import DIGITS, GPT2

_SPACE = r"\s"
# `char::is_ascii_punctuation` or a category of punctuation.
_PUNCTUATION = r"[\p{P}$+<=>^`|~]"
# A character of a word to the crate regex, whose \w is not that of oniguruma.
_WORD = (
    r"\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\x{200c}\x{200d}\x{24b6}-\x{24e9}"
    r"\x{1f130}-\x{1f149}\x{1f150}-\x{1f169}\x{1f170}-\x{1f189}"
)
_WORDS = rf"[{_WORD}]+|[^{_WORD}\s]+"
_MAX_LENGTH = 4096


def steps_of(part: dict[str, Any]) -> Iterator[Step]:
    """Yield the steps of one pre-tokenizer; raises TokenizerError for an unknown one."""
    kind = part["type"]
    if kind == "ByteLevel":
        yield from _byte_level(part)
    elif kind == "Metaspace":
        yield from _metaspace(part)
    elif kind == "Split":
        yield from _split(part)
    elif kind == "Digits":
        together = not part.get("individual_digits")
        yield split_step(DIGITS, "Contiguous" if together else "Isolated")
    elif kind == "Punctuation":
        yield split_step(_PUNCTUATION, part.get("behavior", "Isolated"))
    elif kind == "WhitespaceSplit":
        yield split_step(_SPACE, "Removed")
    elif kind == "Whitespace":
        yield split_step(_WORDS, "Removed", inverted=True)
    elif kind == "BertPreTokenizer":
        yield split_step(_SPACE, "Removed")
        yield split_step(_PUNCTUATION)
    elif kind == "CharDelimiterSplit":
        yield split_step(literal(part["delimiter"]), "Removed")
    elif kind == "FixedLength":
        length = part.get("length", 5)
        if not isinstance(length, int) or not 0 < length <= _MAX_LENGTH:
            raise TokenizerError(f"'length' of a pre-tokenizer is {length!r:.80}.")
        yield split_step(rf"[\s\S]{{1,{length}}}")
    else:
        raise refuse("pre-tokenizer", part)


def _byte_level(part: dict[str, Any]) -> Iterator[Step]:
    if part.get("add_prefix_space", True):
        yield Step(Kind.PREFIX, " ", if_missing=True)
    if part.get("use_regex", True):
        yield split_step(GPT2)
    yield Step(Kind.LETTERS)


def _metaspace(part: dict[str, Any]) -> Iterator[Step]:
    mark = part.get("replacement", "\u2581")
    if not isinstance(mark, str) or len(mark) != 1:
        raise refuse("pre-tokenizer", part)
    legacy = "always" if part.get("add_prefix_space", True) else "never"
    scheme = part.get("prepend_scheme", legacy)
    yield Step(Kind.SPACES, mark)
    if scheme not in ("always", "first", "never"):
        raise refuse("pre-tokenizer", part)
    if scheme != "never":
        yield Step(Kind.PREFIX, mark, only_first=scheme == "first", if_missing=True)
    if part.get("split", True):
        yield split_step(literal(mark), "MergedWithNext")


def _split(part: dict[str, Any]) -> Iterator[Step]:
    pattern, behavior = part["pattern"], part["behavior"]
    text = pattern.get("String")
    if text == "":
        return
    source = str(pattern["Regex"]) if text is None else literal(text)
    if behavior not in BEHAVIORS:
        raise refuse("pre-tokenizer", part)
    yield split_step(source, behavior, inverted=bool(part.get("invert")))


def refuse(what: str, part: Any) -> TokenizerError:
    """Return the error for a component that is not implemented."""
    return TokenizerError(
        f"The {what} {part!r:.200} of tokenizer.json is not implemented; "
        "a GGUF file of the model may carry a tokenizer that is."
    )
