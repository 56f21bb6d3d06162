"""What the engine is doing, as the page and Prometheus are told."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, TypeVar

from tonnage.engine.activity import Activity
from tonnage.engine.engine import Engine
from tonnage.server.observe.metrics import Samples

# However many look on, and however often: engine and kernel are asked five times a second.
_FRESH_S = 0.2
Seen = TypeVar("Seen")


class Fresh(Generic[Seen]):
    """An answer that is shared by all who ask within 0.2 s."""

    def __init__(self, ask: Callable[[], Awaitable[Seen]]) -> None:
        """ask: takes a new look."""
        self._ask = ask
        self._seen: asyncio.Future[Seen] | None = None
        self._asked_s = 0.0

    async def get(self) -> Seen:
        """Return what was seen at most 0.2 s ago."""
        now_s = asyncio.get_running_loop().time()
        if self._seen is None or (self._seen.done() and now_s - self._asked_s > _FRESH_S):
            self._seen = asyncio.ensure_future(self._ask())
            self._asked_s = now_s
        return await asyncio.shield(self._seen)


class Onlooker:
    """Looks at an engine between two of its steps."""

    def __init__(self, engine: Engine) -> None:
        """Take an engine; it is asked when somebody looks."""
        self._engine = engine
        self._activity = Fresh(lambda: asyncio.wrap_future(engine.look()))

    async def look(self) -> Activity:
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
    """Return pages, prefixes and the ladder as JSON values."""
    view = activity.view
    return {
        "queue": {"waiting": view.num_waiting, "running": view.num_running},
        "pages": {
            "total": view.num_total,
            "free": view.num_free,
            "cached": view.num_cached,
            "used": view.num_used,
            "page_bytes": view.page_bytes,
            "sequences": [
                {
                    "id": one.id,
                    "state": one.state,
                    "tokens": one.num_tokens,
                    "pages": one.num_pages,
                    "shared_pages": one.shared_pages,
                }
                for one in view.sequences
            ],
        },
        "prefix": {
            "roots": [branch.to_dict() for branch in view.branches],
            "hidden_nodes": view.num_hidden,
        },
        "ladder": [{"age_s": age_ns / 1e9, "text": text} for age_ns, text in view.events],
    }


def gauges(activity: Activity, speed: Mapping[str, float | None]) -> dict[str, float]:
    """Return what Prometheus is told; what is unknown now is left out."""
    view = activity.view
    known: dict[str, float] = {
        "requests_waiting": view.num_waiting,
        "requests_running": view.num_running,
        "pages_total": view.num_total,
        "pages_free": view.num_free,
        "pages_cached": view.num_cached,
        "pages_used": view.num_used,
    }
    known |= {name: value for name, value in speed.items() if value is not None}
    measured, expected = speed["decode_tokens_per_s"], speed["forecast_tokens_per_s"]
    if measured is not None and expected:
        known["forecast_error"] = measured / expected - 1
    return known


def tell_rungs(samples: Samples, activity: Activity, model: str) -> None:
    """Add how often each rung of the pressure ladder was used since the model was loaded."""
    for rung, count in activity.view.rungs.items():
        samples.add("tonnage_pressure_total", "counter", count, model=model, rung=rung)
