"""Several models under one number of bytes: which are co-resident, and how many tokens each holds.

A pure division of bytes; what a model takes is asked of a `SharingModel`. Co-resident models share
by max-min fairness (Bertsekas and Gallager, Data Networks, 6.5.2) in tokens of context and pages:
the level rises for all until the bytes end, and a model that has all it can use stops.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from tonnage.core.kv_format import PAGE_TOKENS
from tonnage.core.record import record


@record
class ModelBytes:
    """What a model takes of its own: resident_bytes, and load_bytes more while it is loaded."""

    resident_bytes: int
    load_bytes: int

    @property
    def loading_bytes(self) -> int:
        """What it takes at most while it is loaded."""
        return self.resident_bytes + self.load_bytes


class SharingModel(Protocol):
    """A model that wants bytes; more tokens never take fewer."""

    @property
    def pinned(self) -> bool:
        """Whether it stays in memory, whichever other model is asked for."""

    @property
    def least_tokens(self) -> int:
        """With fewer it is swapped in for others, not co-resident with them."""

    @property
    def most_tokens(self) -> int:
        """What it can use; at least `least_tokens`."""

    @property
    def usual_tokens(self) -> int:
        """The context of one completion where bytes allow; what is above serves several."""

    @property
    def smallest_bytes(self) -> int:
        """What the smallest plan of all takes while it is loaded, if others leave no more."""

    @property
    def cut_bytes(self) -> int:
        """The same of the smallest plan with `least_tokens`, whatever it gives up for them."""

    def need(self, tokens: int) -> ModelBytes:
        """Return what it takes where it may hold so many tokens, `least_tokens` or more."""


@record
class Share:
    """What a model gets.

    co_resident: in memory beside all others of which that is true. Else it is swapped: loaded in
    place of in_place_of co-resident models that are not pinned, whichever they are, and of every
    other swapped one. available_bytes: what it may take while it is loaded. tokens: that it may
    hold, None where its least do not fit into those bytes.
    """

    tokens: int | None
    available_bytes: int
    in_place_of: int = 0
    co_resident: bool = True


def divide(models: Mapping[str, SharingModel], capacity_bytes: int) -> dict[str, Share] | None:
    """Return the share of each, None when pinned models leave too little for any smallest plan.

    Co-resident are all pinned models and the most others that fit with their least tokens, of
    equally many those of fewest bytes; none of the others where it would be a single one. They
    share what is left; what not all of them can use goes to one after the other, pinned ones first.
    The rest are swapped, with as many tokens as fit in place of the fewest models.
    """
    least = {name: one.need(one.least_tokens) for name, one in models.items()}
    kept = [least[name] for name, one in models.items() if one.pinned]
    others = {name: one for name, one in models.items() if not one.pinned}
    free_bytes = capacity_bytes - sum(one.resident_bytes for one in kept)
    smallest_bytes = max((one.smallest_bytes for one in others.values()), default=0)
    if peak_bytes((), kept) > capacity_bytes or smallest_bytes > free_bytes:
        return None
    able = {name: least[name] for name in others if least[name].loading_bytes <= free_bytes}
    beside = _most(able, free_bytes)
    if not kept and len(beside) == 1 < len(others):
        beside = []
    swapped = {name: name in able for name in others if name not in beside}
    residents = {name: one for name, one in models.items() if name not in swapped}
    # Pinned models leave what a swapped one needs. They get more pages for themselves only after
    # its weights have theirs.
    cut = [one for name, one in others.items() if not swapped.get(name, True)]
    reserves = [least[name].loading_bytes for name, is_able in swapped.items() if is_able]
    reserves += [min(max(one.smallest_bytes, one.cut_bytes), free_bytes) for one in cut]
    tokens = _fill(residents, capacity_bytes, max(reserves, default=0), cut_any=bool(cut))
    balance = _Balance(residents, tokens, capacity_bytes)
    return {
        name: balance.swapped_share(one if swapped[name] else None, is_only=len(swapped) == 1)
        if name in swapped
        else Share(tokens[name], balance.available_bytes(name))
        for name, one in models.items()
    }


def peak_bytes(loose: Iterable[ModelBytes], pinned: Iterable[ModelBytes] = ()) -> int:
    """Return the most that co-resident models take.

    Pinned ones are loaded first, and once; each of the others while all the rest are there.
    """
    kept, every = list(pinned), list(loose)
    kept_bytes = sum(one.resident_bytes for one in kept)
    both = kept_bytes + sum(one.resident_bytes for one in every)
    first = kept_bytes + max((one.load_bytes for one in kept), default=0)
    return max(first, both + max((one.load_bytes for one in every), default=0))


def _most(able: Mapping[str, ModelBytes], free_bytes: int) -> list[str]:
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
    residents: Mapping[str, SharingModel], capacity_bytes: int, reserve_bytes: int, *, cut_any: bool
) -> dict[str, int]:
    """Return the tokens of each.

    reserve_bytes: what pinned ones leave beside themselves. cut_any: for one that gives up quality.
    """
    limits = {
        name: one.usual_tokens if cut_any and one.pinned else one.most_tokens
        for name, one in residents.items()
    }

    def at(level: int) -> dict[str, int]:
        return {
            name: min(max(level, one.least_tokens), limits[name]) for name, one in residents.items()
        }

    def fits(tokens: Mapping[str, int]) -> bool:
        needs = {name: one.need(tokens[name]) for name, one in residents.items()}
        kept = [needs[name] for name, one in residents.items() if one.pinned]
        loose = [needs[name] for name, one in residents.items() if not one.pinned]
        whole = peak_bytes(loose, kept) <= capacity_bytes
        return whole and sum(one.resident_bytes for one in kept) + reserve_bytes <= capacity_bytes

    tokens = at(_highest(0, max(limits.values(), default=0), lambda level: fits(at(level))))
    for name in sorted(residents, key=lambda name: not residents[name].pinned):
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


class _Balance:
    """What co-resident models leave to each other and to swapped ones."""

    def __init__(
        self, residents: Mapping[str, SharingModel], tokens: Mapping[str, int], capacity_bytes: int
    ) -> None:
        self._needs = {name: one.need(tokens[name]) for name, one in residents.items()}
        loose = (name for name, one in residents.items() if not one.pinned)
        self._loose_bytes = sorted(self._needs[name].resident_bytes for name in loose)
        taken = sum(one.resident_bytes for one in self._needs.values())
        self._free_bytes = capacity_bytes - taken

    def available_bytes(self, name: str) -> int:
        return self._free_bytes + self._needs[name].resident_bytes

    def swapped_share(self, one: SharingModel | None, *, is_only: bool) -> Share:
        """Return the share of a model that is swapped in; None: its least tokens do not fit.

        is_only: no other model is swapped, so that it stays where none has to go for it.
        """
        available = self._free_bytes
        for count, num_bytes in enumerate(self._loose_bytes, start=1):
            available += num_bytes  # the smallest, so that it does not matter which of them go
            if one is not None and one.need(one.least_tokens).loading_bytes <= available:
                return Share(_widest(one, available), available, count, co_resident=False)
        tokens = None if one is None else _widest(one, available)
        count = len(self._loose_bytes)
        return Share(tokens, available, count, co_resident=is_only and not count)


def _widest(one: SharingModel, available_bytes: int) -> int:
    return _highest(
        one.least_tokens,
        one.most_tokens,
        lambda tokens: one.need(tokens).loading_bytes <= available_bytes,
    )
