"""Expressions with intersection and complement, and their automata by derivatives.

J. A. Brzozowski, "Derivatives of Regular Expressions", Journal of the ACM 11, 1964.
"""

from collections.abc import Iterable
from typing import Any

from tonnage.server.generation.pattern_tree import PatternError

_MAX_STATES = 300
_MAX_DERIVED = 20_000
# Expressions: ("none",), ("empty",), ("set", atoms), ("cat", a, b), ("star", a), ("not", a),
# ("or", parts), ("and", parts). They are equal where they are written alike.
Expr = tuple[Any, ...]
NOTHING: Expr = ("none",)
EMPTY: Expr = ("empty",)
ANY: Expr = ("not", NOTHING)  # any text


def one_of(atoms: frozenset[int]) -> Expr:
    """Return the expression of one character of some atoms."""
    return ("set", atoms) if atoms else NOTHING


def cat(first: Expr, then: Expr) -> Expr:
    """Return one expression behind the other."""
    if NOTHING in (first, then):
        return NOTHING
    if first == EMPTY:
        return then
    if then == EMPTY:
        return first
    if first[0] == "cat":
        return cat(first[1], cat(first[2], then))
    return ("cat", first, then)


def star(part: Expr) -> Expr:
    """Return an expression any number of times."""
    return EMPTY if part in (NOTHING, EMPTY) else part if part[0] == "star" else ("star", part)


def complement(part: Expr) -> Expr:
    """Return what an expression does not match."""
    return part[1] if part[0] == "not" else ("not", part)


def either(parts: Iterable[Expr]) -> Expr:
    """Return what any of the parts matches."""
    return _joined("or", parts, nothing=NOTHING, everything=ANY)


def both(parts: Iterable[Expr]) -> Expr:
    """Return what all of the parts match."""
    return _joined("and", parts, nothing=ANY, everything=NOTHING)


def _joined(kind: str, parts: Iterable[Expr], nothing: Expr, everything: Expr) -> Expr:
    flat: set[Expr] = set()
    for part in parts:
        flat |= part[1] if part[0] == kind else {part}
    flat.discard(nothing)
    if everything in flat:
        return everything
    if not flat:
        return nothing
    return flat.pop() if len(flat) == 1 else (kind, frozenset(flat))


def _is_nullable(expr: Expr) -> bool:
    match expr[0]:
        case "empty" | "star":
            return True
        case "none" | "set":
            return False
        case "cat":
            return _is_nullable(expr[1]) and _is_nullable(expr[2])
        case "not":
            return not _is_nullable(expr[1])
        case "or":
            return any(map(_is_nullable, expr[1]))
    return all(map(_is_nullable, expr[1]))


class _Derivatives:
    """What may follow a character, of expressions; with a bound on the work."""

    def __init__(self) -> None:
        self._left = _MAX_DERIVED

    def of(self, expr: Expr, atom: int) -> Expr:
        """Return what may follow a character of `atom`. Raises PatternError at the bound."""
        self._left -= 1
        if self._left < 0:
            raise PatternError(f"more than {_MAX_DERIVED:,} derivatives")
        match expr[0]:
            case "none" | "empty":
                return NOTHING
            case "set":
                return EMPTY if atom in expr[1] else NOTHING
            case "cat":
                found = cat(self.of(expr[1], atom), expr[2])
                return either([found, self.of(expr[2], atom)]) if _is_nullable(expr[1]) else found
            case "star":
                return cat(self.of(expr[1], atom), expr)
            case "not":
                return complement(self.of(expr[1], atom))
        joined = either if expr[0] == "or" else both
        return joined([self.of(part, atom) for part in expr[1]])


Table = tuple[list[list[int]], list[bool]]


def automaton_of(expr: Expr, num_atoms: int) -> Table:
    """Return the next state by state and atom, and which states end a text; 0 is the first."""
    states, table, derivatives = {expr: 0}, [], _Derivatives()
    todo = [expr]
    for one in todo:
        row = []
        for atom in range(num_atoms):
            after = derivatives.of(one, atom)
            if after not in states:
                if len(states) == _MAX_STATES:
                    raise PatternError(f"more than {_MAX_STATES} states")
                states[after] = len(states)
                todo.append(after)
            row.append(states[after])
        table.append(row)
    return _smallest(table, [_is_nullable(one) for one in todo])


def _smallest(table: list[list[int]], ends: list[bool]) -> Table:
    """Return an automaton without states that behave alike (Moore's refinement)."""
    group = [int(end) for end in ends]
    while True:
        names: dict[tuple[int, ...], int] = {}
        found = [
            names.setdefault((group[n], *(group[after] for after in row)), len(names))
            for n, row in enumerate(table)
        ]
        if len(names) == len(set(group)):
            break
        group = found
    first = {one: n for n, one in reversed(list(enumerate(found)))}
    return [[found[after] for after in table[first[n]]] for n in range(len(first))], [
        ends[first[n]] for n in range(len(first))
    ]
