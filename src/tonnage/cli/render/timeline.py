"""What a plan's items take over the life of the process: started, loading, prefill, decode."""

from typing import Literal

from tonnage.core.plan import OTHER_ENGINES, Item, Plan
from tonnage.core.record import record

PhaseName = Literal["start", "load", "prefill", "decode"]
PHASES: tuple[PhaseName, ...] = ("start", "load", "prefill", "decode")

# When an item of kind `host` is allocated; one that is not named counts from the first prompt on.
_HOST_SINCE: dict[str, PhaseName] = {
    "interpreter and libraries": "start",
    OTHER_ENGINES: "start",
    "tokenizer": "load",
    "thread scratch": "load",
    "chat template": "prefill",
    "sampler": "decode",
}


@record
class Timeline:
    """One item over all phases: bytes at the begin and at the end of each, a line in between."""

    item: Item
    bytes_at: tuple[tuple[int, int], ...]


def timelines(plan: Plan) -> tuple[Timeline, ...]:
    """Return how every item comes and goes, in the order in which they come.

    Weights grow while they are loaded, KV pages while tokens come: one half of the context is
    prompt, the other one completion. Everything else is there as a whole or not at all. Load
    buffers are given back before the first prompt, so the end is the total less those.
    """
    found = [Timeline(item, _bytes_at(item)) for item in plan.items]
    return tuple(sorted(found, key=lambda timeline: _first(timeline.bytes_at)))


def phase_peaks(plan: Plan) -> tuple[int, ...]:
    """Return the most bytes of each phase."""
    spans = [timeline.bytes_at for timeline in timelines(plan)]
    return tuple(
        max(sum(span[phase][end] for span in spans) for end in (0, 1))
        for phase in range(len(PHASES))
    )


def _bytes_at(item: Item) -> tuple[tuple[int, int], ...]:
    whole, half = item.planned_bytes, item.planned_bytes // 2
    match item.kind:
        case "weight":
            return ((0, 0), (0, whole), (whole, whole), (whole, whole))
        case "load":
            return ((0, 0), (whole, whole), (0, 0), (0, 0))
        case "kv":
            return ((0, 0), (0, 0), (0, half), (half, whole))
        case "scratch":
            return ((0, 0), (0, 0), (whole, whole), (whole, whole))
        case _:
            since = PHASES.index(_HOST_SINCE.get(item.name, "prefill"))
            return tuple(
                (whole, whole) if phase >= since else (0, 0) for phase in range(len(PHASES))
            )


def _first(bytes_at: tuple[tuple[int, int], ...]) -> int:
    return next((2 * i + j for i, pair in enumerate(bytes_at) for j in (0, 1) if pair[j]), 99)
