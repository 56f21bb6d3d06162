"""Several models under one number of bytes: which of them are in memory together, and how wide.

A pure division of bytes; what a model takes is asked of a `Contender`. Models that are in memory
together share by max-min fairness (Bertsekas and Gallager, Data Networks, 6.5.2) in tokens of
context and pages: the level rises for all until the bytes end, and who has all it can use stops.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from tonnage.core.layout import PAGE_TOKENS


@dataclass(frozen=True, slots=True)
class Need:
    """What a model takes of its own: resident_bytes, and load_bytes more while it is loaded."""

    resident_bytes: int
    load_bytes: int

    @property
    def loading_bytes(self) -> int:
        """What it takes at most while it is loaded."""
        return self.resident_bytes + self.load_bytes


class Contender(Protocol):
    """A model that wants bytes; more tokens never take fewer."""

    @property
    def pinned(self) -> bool:
        """Whether it stays in memory, whoever else is asked for."""

    @property
    def least_tokens(self) -> int:
        """Below it, it had rather have the place of others than one beside them."""

    @property
    def most_tokens(self) -> int:
        """What it can use; at least `least_tokens`."""

    @property
    def usual_tokens(self) -> int:
        """The context that one answer has where there is room; what is above serves several."""

    @property
    def smallest_bytes(self) -> int:
        """What the smallest plan of all takes while it is loaded, if others leave no more."""

    @property
    def cut_bytes(self) -> int:
        """The same of the smallest plan with `least_tokens`, whatever it gives up for them."""

    def need(self, tokens: int) -> Need:
        """Return what it takes where it may hold so many tokens, `least_tokens` or more."""


@dataclass(frozen=True, slots=True)
class Share:
    """What a model gets.

    together: in memory beside all others of which that is true. Else it is loaded in place of
    in_place_of of those that are not pinned, whichever they are, and of all that are not together.
    tokens: that it may hold, None where its least do not fit into room_bytes, which is what it may
    take while it is loaded.
    """

    tokens: int | None
    room_bytes: int
    in_place_of: int = 0
    together: bool = True


def divide(contenders: Mapping[str, Contender], capacity_bytes: int) -> dict[str, Share] | None:
    """Return the share of each, None when the pinned ones leave no room for the smallest of others.

    Together are all pinned models and the most others that fit with their least tokens, of equally
    many those of fewest bytes; nobody, where it is but one. They share what is left; whatever none
    of them can use at once goes to one after the other, pinned ones first. The others take turns
    with them, with as many tokens as fit in place of the fewest.
    """
    least = {name: one.need(one.least_tokens) for name, one in contenders.items()}
    kept = [least[name] for name, one in contenders.items() if one.pinned]
    others = {name: one for name, one in contenders.items() if not one.pinned}
    free_bytes = capacity_bytes - sum(one.resident_bytes for one in kept)
    smallest_bytes = max((one.smallest_bytes for one in others.values()), default=0)
    if peak_bytes((), kept) > capacity_bytes or smallest_bytes > free_bytes:
        return None
    able = {name: least[name] for name in others if least[name].loading_bytes <= free_bytes}
    beside = _most(able, free_bytes)
    if not kept and len(beside) == 1 < len(others):
        beside = []
    turns = {name: name in able for name in others if name not in beside}
    members = {name: one for name, one in contenders.items() if name not in turns}
    # Pinned ones do not take the room of who comes and goes beside them, and more pages for
    # themselves not before its weights.
    cut = [one for name, one in others.items() if not turns.get(name, True)]
    reserves = [least[name].loading_bytes for name, is_able in turns.items() if is_able]
    reserves += [min(max(one.smallest_bytes, one.cut_bytes), free_bytes) for one in cut]
    tokens = _fill(members, capacity_bytes, max(reserves, default=0), cut_any=bool(cut))
    books = _Books(members, tokens, capacity_bytes)
    return {
        name: books.turn(one if turns[name] else None, is_only=len(turns) == 1)
        if name in turns
        else Share(tokens[name], books.room_bytes(name))
        for name, one in contenders.items()
    }


def peak_bytes(loose: Iterable[Need], pinned: Iterable[Need] = ()) -> int:
    """Return what models take at most that are in memory together.

    Pinned ones are loaded first, and once; each of the others while all the rest are there.
    """
    kept, every = list(pinned), list(loose)
    kept_bytes = sum(one.resident_bytes for one in kept)
    both = kept_bytes + sum(one.resident_bytes for one in every)
    first = kept_bytes + max((one.load_bytes for one in kept), default=0)
    return max(first, both + max((one.load_bytes for one in every), default=0))


def _most(able: Mapping[str, Need], free_bytes: int) -> list[str]:
    """Return the most of `able` that fit, of equally many the smallest."""
    most: list[str] = []
    # With the buffers of one of them as the largest, the smallest are the most that fit.
    for load_bytes in sorted({one.load_bytes for one in able.values()}):
        taken: list[str] = []
        allowed = [name for name, one in able.items() if one.load_bytes <= load_bytes]
        for name in sorted(allowed, key=lambda name: able[name].resident_bytes):
            if peak_bytes(able[one] for one in (*taken, name)) > free_bytes:
                break
            taken.append(name)
        if len(taken) > len(most):
            most = taken
    return most


def _fill(
    members: Mapping[str, Contender], capacity_bytes: int, reserve_bytes: int, *, cut_any: bool
) -> dict[str, int]:
    """Return the tokens of each.

    reserve_bytes: what pinned ones leave beside themselves. cut_any: for one that gives up quality.
    """
    limits = {
        name: one.usual_tokens if cut_any and one.pinned else one.most_tokens
        for name, one in members.items()
    }

    def at(level: int) -> dict[str, int]:
        return {
            name: min(max(level, one.least_tokens), limits[name]) for name, one in members.items()
        }

    def fits(tokens: Mapping[str, int]) -> bool:
        needs = {name: one.need(tokens[name]) for name, one in members.items()}
        kept = [needs[name] for name, one in members.items() if one.pinned]
        loose = [needs[name] for name, one in members.items() if not one.pinned]
        whole = peak_bytes(loose, kept) <= capacity_bytes
        return whole and sum(one.resident_bytes for one in kept) + reserve_bytes <= capacity_bytes

    tokens = at(_highest(0, max(limits.values(), default=0), lambda level: fits(at(level))))
    for name in sorted(members, key=lambda name: not members[name].pinned):
        with_one = {**tokens}

        def fits_with(own: int, name: str = name, with_one: dict[str, int] = with_one) -> bool:
            return fits({**with_one, name: own})

        tokens[name] = _highest(tokens[name], limits[name], fits_with)
    return tokens


def _highest(low: int, high: int, fits: Callable[[int], bool]) -> int:
    """Return the highest of low, low + a page, and so on, and high, that fits; low does."""
    if low >= high or fits(high):
        return max(low, high)
    steps, beyond = 0, -(-(high - low) // PAGE_TOKENS)
    while beyond - steps > 1:
        middle = (steps + beyond) // 2
        if fits(low + middle * PAGE_TOKENS):
            steps = middle
        else:
            beyond = middle
    return low + steps * PAGE_TOKENS


class _Books:
    """What models that are in memory together leave to each other and to those that come."""

    def __init__(
        self, members: Mapping[str, Contender], tokens: Mapping[str, int], capacity_bytes: int
    ) -> None:
        self._needs = {name: one.need(tokens[name]) for name, one in members.items()}
        loose = (name for name, one in members.items() if not one.pinned)
        self._loose_bytes = sorted(self._needs[name].resident_bytes for name in loose)
        taken = sum(one.resident_bytes for one in self._needs.values())
        self._free_bytes = capacity_bytes - taken

    def room_bytes(self, name: str) -> int:
        return self._free_bytes + self._needs[name].resident_bytes

    def turn(self, one: Contender | None, *, is_only: bool) -> Share:
        """Return the share of who is loaded in place of others; None: its least do not fit.

        is_only: nobody else comes and goes, so that it stays where nobody has to go for it.
        """
        room = self._free_bytes
        for count, num_bytes in enumerate(self._loose_bytes, start=1):
            room += num_bytes  # the smallest, so that it does not matter which of them go
            if one is not None and one.need(one.least_tokens).loading_bytes <= room:
                return Share(_widest(one, room), room, count, together=False)
        tokens = None if one is None else _widest(one, room)
        count = len(self._loose_bytes)
        return Share(tokens, room, count, together=is_only and not count)


def _widest(one: Contender, room_bytes: int) -> int:
    return _highest(
        one.least_tokens,
        one.most_tokens,
        lambda tokens: one.need(tokens).loading_bytes <= room_bytes,
    )
