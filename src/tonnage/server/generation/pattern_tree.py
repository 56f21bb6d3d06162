"""Regular expressions of JSON Schema (ECMA-262, without flags) as trees of sets of characters."""

from tonnage.core.record import record

Ranges = tuple[tuple[int, int], ...]  # code points, both ends included
_LAST = 0x10FFFF
_MAX_REPEATS = 256
_DIGIT: Ranges = ((48, 57),)
WORD: Ranges = ((48, 57), (65, 90), (95, 95), (97, 122))
_SPACE: Ranges = (
    (9, 13), (32, 32), (160, 160), (0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029),
    (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000), (0xFEFF, 0xFEFF),
)  # fmt: skip
_LINE_ENDS: Ranges = ((10, 10), (13, 13), (0x2028, 0x2029))
_CONTROLS = {"t": 9, "n": 10, "v": 11, "f": 12, "r": 13, "0": 0}


class PatternError(ValueError):
    """A pattern is broken, or has a part that this parser does not know."""


@record
class Chars:
    """One character of a set."""

    ranges: Ranges


@record
class Sequence:
    """One part behind the other."""

    parts: "tuple[Node, ...]"


@record
class Either:
    """Any of the parts."""

    parts: "tuple[Node, ...]"


@record
class Repeat:
    """A part, `least` to `most` times; None for any number."""

    part: "Node"
    least: int
    most: int | None


@record
class Look:
    """What follows has to begin with a part, or must not."""

    part: "Node"
    is_negative: bool


@record
class Anchor:
    """A place: `^`, `$`, `b` between a word and something else, `B` anywhere else."""

    kind: str


Node = Chars | Sequence | Either | Repeat | Look | Anchor


def parse(pattern: str) -> Node:
    """Return the tree of a pattern. Raises PatternError."""
    parser = _Parser(pattern)
    tree = parser.either()
    if parser.at < len(pattern):
        raise PatternError(f"a bracket too many at {parser.at}")
    return tree


def inverted(ranges: Ranges) -> Ranges:
    """Return all other characters."""
    found, begin = [], 0
    for low, high in sorted(ranges):
        if low > begin:
            found.append((begin, low - 1))
        begin = max(begin, high + 1)
    return (*found, (begin, _LAST)) if begin <= _LAST else tuple(found)


_CLASSES = {
    "d": _DIGIT, "w": WORD, "s": _SPACE,
    "D": inverted(_DIGIT), "W": inverted(WORD), "S": inverted(_SPACE),
}  # fmt: skip


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self.at = 0

    def either(self) -> Node:
        parts = [self._sequence()]
        while self._took("|"):
            parts.append(self._sequence())
        return parts[0] if len(parts) == 1 else Either(tuple(parts))

    def _took(self, text: str) -> bool:
        found = self._text.startswith(text, self.at)
        self.at += len(text) if found else 0
        return found

    def _next(self) -> str:
        if self.at >= len(self._text):
            raise PatternError("it ends too early")
        self.at += 1
        return self._text[self.at - 1]

    def _sequence(self) -> Node:
        parts = []
        while self.at < len(self._text) and self._text[self.at] not in "|)":
            parts.append(self._repeated(self._atom()))
        return Sequence(tuple(parts))

    def _atom(self) -> Node:
        char = self._next()
        match char:
            case "(":
                return self._group()
            case "[":
                return Chars(self._set())
            case ".":
                return Chars(inverted(_LINE_ENDS))
            case "^" | "$":
                return Anchor(char)
            case "\\":
                if self._text[self.at : self.at + 1] in ("b", "B"):
                    return Anchor(self._next())
                return Chars(self._escape())
            case "*" | "+" | "?":
                raise PatternError("nothing is repeated")
        return Chars(((ord(char), ord(char)),))

    def _group(self) -> Node:
        is_look = self._took("?=") or self._took("?!")
        is_negative = is_look and self._text[self.at - 1] == "!"
        if not is_look and self._took("?") and not self._took(":"):
            if self._text[self.at : self.at + 2] in ("<=", "<!") or not self._took("<"):
                raise PatternError("a group of an unknown kind")
            end = self._text.find(">", self.at)
            self.at = end + 1 if end >= 0 else len(self._text)
        inner = self.either()
        if not self._took(")"):
            raise PatternError("a bracket is not closed")
        return Look(inner, is_negative) if is_look else inner

    def _repeated(self, part: Node) -> Node:
        bounds = self._bounds()
        if bounds is None:
            return part
        self._took("?")  # a lazy one matches the same texts
        if isinstance(part, Anchor | Look):
            raise PatternError("a place is repeated")
        return Repeat(part, *bounds)

    def _bounds(self) -> tuple[int, int | None] | None:
        for mark, bounds in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._took(mark):
                return bounds
        end = self._text.find("}", self.at)
        if self._text[self.at : self.at + 1] != "{" or end < 0:
            return None
        least, comma, most = self._text[self.at + 1 : end].partition(",")
        if not least.isdecimal() or (most and not most.isdecimal()):
            return None  # a bracket that stands for itself
        if max(int(least), int(most or 0)) > _MAX_REPEATS:
            raise PatternError(f"more than {_MAX_REPEATS} repeats")
        self.at = end + 1
        return int(least), (int(most) if most else None) if comma else int(least)

    def _set(self) -> Ranges:
        is_inverted = self._took("^")
        ranges: list[tuple[int, int]] = []
        while not self._took("]"):
            low = self._member()
            if self._text[self.at : self.at + 1] == "-" and self._text[self.at + 1 :][:1] != "]":
                self.at += 1
                high = self._member()
                if len(low) != 1 or len(high) != 1 or low[0][0] > high[0][1]:
                    raise PatternError("a range of characters is broken")
                ranges.append((low[0][0], high[0][1]))
            else:
                ranges += low
        return inverted(tuple(ranges)) if is_inverted else tuple(sorted(ranges))

    def _member(self) -> Ranges:
        char = self._next()
        if char == "\\":
            if self._took("b"):
                return ((8, 8),)
            return self._escape()
        return ((ord(char), ord(char)),)

    def _escape(self) -> Ranges:
        char = self._next()
        if char in _CLASSES:
            return _CLASSES[char]
        code = _CONTROLS.get(char)
        if char in "xu":
            code = self._hexadecimal(char)
        if code is None:
            if char.isalnum():
                raise PatternError(f"the escape \\{char}")
            code = ord(char)
        return ((code, code),)

    def _hexadecimal(self, kind: str) -> int:
        if kind == "u" and self._took("{"):
            end = self._text.find("}", self.at)
        else:
            end = self.at + (2 if kind == "x" else 4)
        digits = self._text[self.at : end]
        self.at = end + self._text.startswith("}", end) if kind == "u" else end
        if not digits or any(one not in "0123456789abcdefABCDEF" for one in digits):
            raise PatternError("an escape without its number")
        return int(digits, 16)
