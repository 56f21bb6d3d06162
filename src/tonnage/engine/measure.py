"""Measuring the items of a plan in the process that carries it out."""

from collections.abc import Mapping

from tonnage.backends.protocol import Runtime
from tonnage.core.ledger import Entry, Measure
from tonnage.core.plan import Item, Plan
from tonnage.machine.memory_use import anonymous_bytes


def bytes_beside(runtime: Runtime) -> int:
    """Return what this process has allocated beside what the runtime holds."""
    held = sum(nbytes or 0 for nbytes in runtime.resident_items().values())
    return anonymous_bytes() - held


def measure_items(
    plan: Plan,
    resident: Mapping[str, int | None],
    outside: Mapping[str, tuple[int, Measure]],
) -> tuple[Entry, ...]:
    """Return every item of `plan` with what it takes now.

    resident: of the items that the runtime holds, None where the system does not say. outside:
    bytes of other items, and how they were found; none of these is given back before the end, so
    that peak and now agree. What is named in neither (load buffers, the sampler) comes and goes
    with one call or one completion.
    """
    entries = []
    for item in plan.items:
        if item.name in resident:
            entries.append(_of_runtime(item, resident[item.name]))
        elif item.name in outside:
            now, how = outside[item.name]
            entries.append(_entry(item, now, now, how))
        else:
            entries.append(_entry(item, 0, item.planned_bytes, "sizes"))
    return tuple(entries)


def _of_runtime(item: Item, now: int | None) -> Entry:
    if now is None:
        return _entry(item, item.planned_bytes, item.planned_bytes, "assumed")
    return _entry(item, now, now, "pages")


def _entry(item: Item, now: int, peak: int, how: Measure) -> Entry:
    return Entry(item.name, item.kind, item.planned_bytes, now, peak, how)
