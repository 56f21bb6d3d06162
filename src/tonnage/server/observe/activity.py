"""What the engine is doing, as the page and Prometheus show it."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from tonnage.engine.activity import Activity
from tonnage.server.generation.engine import ServedEngine
from tonnage.server.observe.metrics import Samples

# However many look on, and however often: engine and kernel are asked five times a second.
_TTL_S = 0.2
Seen = TypeVar("Seen")


class TtlCache(Generic[Seen]):
    """An answer that is shared by all who ask within 0.2 s."""

    def __init__(self, ask: Callable[[], Awaitable[Seen]]) -> None:
        """ask: takes a new look."""
        self._ask = ask
        self._seen: asyncio.Future[Seen] | None = None
        self._asked_s = 0.0

    async def get(self) -> Seen:
        """Return what was seen at most 0.2 s ago."""
        now_s = asyncio.get_running_loop().time()
        if self._seen is None or (self._seen.done() and now_s - self._asked_s > _TTL_S):
            self._seen = asyncio.ensure_future(self._ask())
            self._asked_s = now_s
        return await asyncio.shield(self._seen)


class Observer:
    """Looks at an engine between two of its steps."""

    def __init__(self, engine: ServedEngine) -> None:
        """Take an engine; it is asked when a client looks."""
        self._engine = engine
        self._activity = TtlCache(lambda: asyncio.wrap_future(engine.look()))

    async def snapshot(self) -> Activity:
        """Return what the engine did at most 0.2 s ago."""
        return await self._activity.get()

    def speed(self, activity: Activity) -> dict[str, float | None]:
        """Return tokens per second, their forecast and the share of the bandwidth.

        All are None while nothing is written, the latter two on a machine without measured rates.
        """
        now = activity.decoding
        if now is None:
            names = ("decode_tokens_per_s", "forecast_tokens_per_s", "bandwidth_share")
            return dict.fromkeys(names)
        expectation = self._engine.expectation
        position = round(now.position)
        return {
            "decode_tokens_per_s": now.tokens_per_s,
            "forecast_tokens_per_s": expectation.decode_tokens_per_s(round(now.rows), position),
            "bandwidth_share": expectation.bandwidth_share(now.tokens_per_s, position, now.rows),
        }


def shown(activity: Activity) -> dict[str, Any]:
    """Return pages, prefixes and memory pressure as JSON values."""
    snapshot = activity.snapshot
    return {
        "queue": {"waiting": snapshot.num_waiting, "running": snapshot.num_running},
        "pages": {
            "total": snapshot.num_total,
            "free": snapshot.num_free,
            "cached": snapshot.num_cached,
            "used": snapshot.num_used,
            "page_bytes": snapshot.page_bytes,
            "sequences": [
                {
                    "id": one.id,
                    "state": one.state,
                    "tokens": one.num_tokens,
                    "pages": one.num_pages,
                    "shared_pages": one.shared_pages,
                }
                for one in snapshot.sequences
            ],
        },
        "prefix": {
            "roots": [branch.to_dict() for branch in snapshot.branches],
            "hidden_nodes": snapshot.num_hidden,
        },
        "ladder": [{"age_s": age_ns / 1e9, "text": text} for age_ns, text in snapshot.events],
    }


def emit_activity(
    samples: Samples, activity: Activity, speed: Mapping[str, float | None], model: str
) -> None:
    """Add what the engine is doing; what is unknown now is left out."""
    snapshot = activity.snapshot
    samples.add("tonnage_requests_waiting", snapshot.num_waiting, model=model)
    samples.add("tonnage_requests_running", snapshot.num_running, model=model)
    for state, count in (
        ("free", snapshot.num_free), ("cached", snapshot.num_cached), ("used", snapshot.num_used),
    ):  # fmt: skip
        samples.add("tonnage_kv_pages", count, model=model, state=state)
        samples.add(f"tonnage_pages_{state}", count, model=model)
    samples.add("tonnage_kv_pages_capacity", snapshot.num_total, model=model)
    for names, value in _rates(speed):
        for name in names:
            samples.add(f"tonnage_{name}", value, model=model)
    for level, count in snapshot.levels.items():
        samples.add("tonnage_memory_pressure_total", count, model=model, level=level)
        samples.add("tonnage_pressure_total", count, model=model, rung=level)


def _rates(speed: Mapping[str, float | None]) -> Iterator[tuple[tuple[str, str], float]]:
    """Yield ((name, old name), value) of what is known of the speed."""
    measured, expected = speed["decode_tokens_per_s"], speed["forecast_tokens_per_s"]
    error = None if measured is None or not expected else measured / expected - 1
    for name, old_name, value in (
        ("decode_tokens_per_second", "decode_tokens_per_s", measured),
        ("forecast_tokens_per_second", "forecast_tokens_per_s", expected),
        ("memory_bandwidth_ratio", "bandwidth_share", speed["bandwidth_share"]),
        ("forecast_error_ratio", "forecast_error", error),
    ):
        if value is not None:
            yield (name, old_name), value
