"""Measuring the items of a plan in the process that carries it out."""

from collections.abc import Mapping

from tonnage.core.ledger import Entry, Measure
from tonnage.core.plan import Item, Plan
from tonnage.machine.memory_use import anonymous_bytes
from tonnage.machine.resident import resident_bytes

ARENA_KINDS = ("weight", "kv", "state", "scratch")


def bytes_beside_arena(arena_address: int, arena_bytes: int) -> int:
    """Return what this process has allocated beside an arena."""
    return anonymous_bytes() - (resident_bytes(arena_address, arena_bytes) or 0)


def measure_items(
    plan: Plan, address: int | None, outside: Mapping[str, tuple[int, Measure]]
) -> tuple[Entry, ...]:
    """Return every item of `plan` with what it takes now.

    address: of the arena, or None. outside: bytes of the items beside the arena, and how they were
    found; none of these is given back before the end, so that peak and now agree. What is named in
    neither (load buffers, the sampler) comes and goes with one call or one answer.
    """
    entries = []
    offset = 0
    for item in plan.items:
        if item.kind in ARENA_KINDS:
            entries.append(_of_arena(item, address, offset))
            offset += item.planned_bytes
        elif item.name in outside:
            now, how = outside[item.name]
            entries.append(_entry(item, now, now, how))
        else:
            entries.append(_entry(item, 0, item.planned_bytes, "sizes"))
    return tuple(entries)


def _of_arena(item: Item, address: int | None, offset: int) -> Entry:
    now = None if address is None else resident_bytes(address + offset, item.planned_bytes)
    if now is None:
        return _entry(item, item.planned_bytes, item.planned_bytes, "assumed")
    return _entry(item, now, now, "pages")


def _entry(item: Item, now: int, peak: int, how: Measure) -> Entry:
    return Entry(item.name, item.kind, item.planned_bytes, now, peak, how)
