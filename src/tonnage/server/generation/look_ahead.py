"""Patterns that look ahead, as plain ones that match the same texts.

The pattern becomes an expression with intersection and complement, that one an automaton by
derivatives (J. A. Brzozowski, "Derivatives of Regular Expressions", 1964), and the automaton a
pattern again by taking its states away one by one.
"""

import re
from collections.abc import Iterable

from tonnage.server.generation.pattern_expr import (
    ANY,
    EMPTY,
    NOTHING,
    Expr,
    Table,
    automaton_of,
    both,
    cat,
    complement,
    either,
    one_of,
    star,
)
from tonnage.server.generation.pattern_tree import (
    WORD,
    Anchor,
    Chars,
    Either,
    Look,
    Node,
    PatternError,
    Ranges,
    Repeat,
    Sequence,
    inverted,
    parse,
)

_LOOKS = re.compile(r"\(\?<?[=!]|\\[bB]")
_MAX_PARTS = 256  # with repeats written out
_MAX_CHARS = 16_384
_OTHER_ASCII = tuple((low, min(high, 127)) for low, high in inverted(WORD) if low < 128)
_BEYOND_ASCII: Ranges = ((128, 0x10FFFF),)
# What stands before a place: nothing, a character of words, another one of ASCII, one beyond, any.
_START, _WORD, _OTHER, _BEYOND = "start", "word", "other", "beyond"
_CHAR, _UNKNOWN = "char", "unknown"


def plain_pattern(pattern: str) -> str | None:
    """Return a pattern of the same meaning without look-around, None where there is none."""
    if not _LOOKS.search(pattern):
        return pattern
    try:
        tree = parse(pattern)
        if _size(tree) > _MAX_PARTS:
            raise PatternError(f"more than {_MAX_PARTS} parts")
        atoms = _Atoms(tree)
        return _written(automaton_of(_Compiler(atoms).search(tree), len(atoms.ranges)), atoms)
    except (PatternError, RecursionError):
        return None


class _Atoms:
    """The characters in classes that no set of the pattern distinguishes."""

    def __init__(self, tree: Node) -> None:
        sets = [WORD, _BEYOND_ASCII, *_sets(tree)]
        edges = sorted(
            {0, *(edge for one in sets for low, high in one for edge in (low, high + 1))}
        )
        by_sets: dict[frozenset[int], list[tuple[int, int]]] = {}
        for low, end in zip(edges, [*edges[1:], 0x110000], strict=True):
            if low < end:
                inside = frozenset(n for n, one in enumerate(sets) if _has(one, low))
                by_sets.setdefault(inside, []).append((low, end - 1))
        self.ranges = [tuple(ranges) for ranges in by_sets.values()]

    def of(self, ranges: Ranges) -> frozenset[int]:
        return frozenset(n for n, one in enumerate(self.ranges) if _has(ranges, one[0][0]))

    def written(self, atoms: Iterable[int]) -> str:
        """Return the class of characters of some atoms."""
        found = sorted(one for atom in atoms for one in self.ranges[atom])
        merged: list[tuple[int, int]] = []
        for low, high in found:
            if merged and merged[-1][1] + 1 == low:
                merged[-1] = (merged[-1][0], high)
            else:
                merged.append((low, high))
        inside = "".join(
            f"\\x{{{low:x}}}" if low == high else f"\\x{{{low:x}}}-\\x{{{high:x}}}"
            for low, high in merged
        )
        return f"[{inside}]"


def _has(ranges: Ranges, code: int) -> bool:
    return any(low <= code <= high for low, high in ranges)


def _sets(tree: Node) -> Iterable[Ranges]:
    match tree:
        case Chars(ranges):
            yield ranges
        case Sequence(parts) | Either(parts):
            for part in parts:
                yield from _sets(part)
        case Repeat(part) | Look(part):
            yield from _sets(part)


class _Compiler:
    """From trees to expressions: each part together with what may follow it to the text's end."""

    def __init__(self, atoms: _Atoms) -> None:
        self._atoms = atoms
        self._word = one_of(atoms.of(WORD))
        # Whether letters beyond ASCII make words depends on whom one asks, so none is beside `\\b`.
        self._other, self._beyond = one_of(atoms.of(_OTHER_ASCII)), one_of(atoms.of(_BEYOND_ASCII))

    def search(self, tree: Node) -> Expr:
        """Return all texts in which the pattern is found somewhere."""
        kinds = ((_WORD, self._word), (_OTHER, self._other), (_BEYOND, self._beyond))
        found = [self._then(tree, ANY, _START)]
        for before, char in kinds:
            found.append(cat(ANY, cat(char, self._then(tree, ANY, before))))
        return either(found)

    def _then(self, tree: Node, rest: Expr, before: str) -> Expr:
        match tree:
            case Chars(ranges):
                return cat(one_of(self._atoms.of(ranges)), rest)
            case Either(parts):
                return either([self._then(part, rest, before) for part in parts])
            case Sequence(parts):
                places = [before]
                for part in parts:
                    places.append(self._behind(part, places[-1]))
                for part, place in zip(reversed(parts), reversed(places[:-1]), strict=True):
                    rest = self._then(part, rest, place)
                return rest
            case Look(part, is_negative):
                if is_negative and _has_word_borders(part):
                    raise PatternError("borders of words where they must not be")
                found = self._then(part, ANY, before)
                return both([rest, complement(found) if is_negative else found])
            case Anchor(kind):
                return self._anchor(kind, rest, before)
            case Repeat(part, least, most):
                return self._repeated(part, least, most, rest, before)

    def _anchor(self, kind: str, rest: Expr, before: str) -> Expr:
        if kind == "$":
            return both([rest, EMPTY])
        if kind == "^":
            if before == _UNKNOWN:
                raise PatternError("what stands before ^ is not known")
            return rest if before == _START else NOTHING
        if before in (_CHAR, _UNKNOWN):
            raise PatternError("what stands before a word is not known")
        if before == _BEYOND:
            return NOTHING
        if (before == _WORD) == (kind == "B"):
            return both([rest, cat(self._word, ANY)])
        return both([rest, either([EMPTY, cat(self._other, ANY)])])

    def _repeated(self, part: Node, least: int, most: int | None, rest: Expr, before: str) -> Expr:
        if _looks_around(part):
            if (least, most) != (0, 1):
                raise PatternError("something that looks around is repeated")
            return either([self._then(part, rest, before), rest])
        once = self._then(part, EMPTY, _UNKNOWN)
        if most is None:
            rest = cat(star(once), rest)
        for _ in range((most or least) - least):
            rest = either([rest, cat(once, rest)]) if most is not None else rest
        for _ in range(least):
            rest = cat(once, rest)
        return rest

    def _behind(self, part: Node, before: str) -> str:
        """Return what stands before the place behind a part."""
        match part:
            case Anchor() | Look():
                return before
            case Chars(ranges):
                atoms = self._atoms.of(ranges)
                kinds = ((_WORD, WORD), (_OTHER, _OTHER_ASCII), (_BEYOND, _BEYOND_ASCII))
                return next((k for k, one in kinds if atoms <= self._atoms.of(one)), _CHAR)
            case Sequence(parts):
                for one in parts:
                    before = self._behind(one, before)
                return before
            case Either(parts):
                return _common([self._behind(one, before) for one in parts])
            case Repeat(one, least, _):
                inner = self._behind(one, before)
                return inner if least else _common([inner, before])


def _common(places: list[str]) -> str:
    if len(set(places)) == 1:
        return places[0]
    return _UNKNOWN if {_START, _UNKNOWN} & set(places) else _CHAR


def _looks_around(tree: Node) -> bool:
    match tree:
        case Look() | Anchor():
            return True
        case Sequence(parts) | Either(parts):
            return any(map(_looks_around, parts))
        case Repeat(part):
            return _looks_around(part)
    return False


def _has_word_borders(tree: Node) -> bool:
    match tree:
        case Anchor(kind):
            return kind in "bB"
        case Sequence(parts) | Either(parts):
            return any(map(_has_word_borders, parts))
        case Repeat(part) | Look(part):
            return _has_word_borders(part)
    return False


def _size(tree: Node) -> int:
    """Return how many parts a tree has with its repeats written out."""
    match tree:
        case Sequence(parts) | Either(parts):
            return 1 + sum(map(_size, parts))
        case Repeat(part, least, most):
            return 1 + _size(part) * max(1, least, most or 0)
        case Look(part):
            return 1 + _size(part)
    return 1


def _written(automaton: Table, atoms: _Atoms) -> str:
    """Return the pattern of an automaton. Raises PatternError where it is very long."""
    table, ends = automaton
    begin, end = -1, -2
    edges: dict[tuple[int, int], str] = {(begin, 0): ""}
    for state, row in enumerate(table):
        for after in set(row):
            on = [atom for atom, one in enumerate(row) if one == after]
            edges[state, after] = atoms.written(on)
        if ends[state]:
            edges[state, end] = ""
    left = set(range(len(table)))
    while left:
        state = min(left, key=lambda one: _cost(edges, one))
        left.remove(state)
        _take_away(edges, state)
        if sum(map(len, edges.values())) > _MAX_CHARS:
            raise PatternError(f"more than {_MAX_CHARS:,} characters without look-around")
    if (begin, end) not in edges:
        raise PatternError("no text has it")
    return f"^(?:{edges[begin, end]})$"


def _cost(edges: dict[tuple[int, int], str], state: int) -> int:
    """Return how much longer the pattern gets without a state."""
    into = [text for (a, b), text in edges.items() if b == state != a]
    out = [text for (a, b), text in edges.items() if a == state != b]
    loop = len(edges.get((state, state), ""))
    return sum(len(one) * len(out) for one in into) + sum(
        (len(one) + loop) * len(into) for one in out
    )


def _take_away(edges: dict[tuple[int, int], str], state: int) -> None:
    """Replace the ways through a state by ways around it."""
    loop = edges.pop((state, state), None)
    again = "" if loop is None else f"(?:{loop})*"
    into = {a: edges.pop((a, b)) for a, b in list(edges) if b == state}
    out = {b: edges.pop((a, b)) for a, b in list(edges) if a == state}
    for a, first in into.items():
        for b, last in out.items():
            way = f"{first}{again}{last}"
            known = edges.get((a, b))
            edges[a, b] = way if known is None else f"(?:{known}|{way})"
