"""The ledger: what was planned beside what is there, of one engine and of all in a process."""

from dataclasses import asdict
from threading import Lock
from typing import Any, Literal, Protocol
from weakref import WeakSet

from tonnage.core.plan import OTHER_ENGINES, Kind
from tonnage.core.record import record

Measure = Literal["pages", "owner", "growth", "sizes", "assumed"]


@record
class Entry:
    """An item of the plan, now and at its peak.

    measured_by: `pages`, resident pages that the kernel counts; `growth`, how much the process grew
    when it was made; `owner`, the bytes its owner has allocated; `sizes`, buffers that come and go
    with one load or completion, at most of their planned sizes; `assumed`, as planned because this
    system says nothing. model: whose item it is where a process has several, "" for its own.
    """

    name: str
    kind: Kind
    planned_bytes: int
    now_bytes: int
    peak_bytes: int
    measured_by: Measure
    model: str = ""


@record
class Ledger:
    """All items, and the whole process; what no item explains is `unaccounted_bytes`."""

    items: tuple[Entry, ...]
    budget_bytes: int
    rss_bytes: int
    peak_rss_bytes: int

    @property
    def total_bytes(self) -> int:
        """The sum of what was planned."""
        return sum(item.planned_bytes for item in self.items)

    @property
    def unaccounted_bytes(self) -> int:
        """Resident bytes less those of the items; below zero when owners have not used all."""
        return self.rss_bytes - sum(item.now_bytes for item in self.items)

    def to_dict(self) -> dict[str, Any]:
        """Return the ledger as JSON values."""
        return {
            "items": [asdict(item) for item in self.items],
            "budget_bytes": self.budget_bytes,
            "total_bytes": self.total_bytes,
            "rss_bytes": self.rss_bytes,
            "peak_rss_bytes": self.peak_rss_bytes,
            "unaccounted_bytes": self.unaccounted_bytes,
        }


class Holder(Protocol):
    """An open engine, without what the process shares."""

    @property
    def planned_bytes(self) -> int:
        """What it may come to."""

    @property
    def held_bytes(self) -> int:
        """What it holds now."""


class ProcessLedger:
    """Who holds memory in one process beside its interpreter: engines, each while it is open.

    Resident bytes and limits are the process's, whoever opened what in it, so that an engine's plan
    and ledger need the others. One that was dropped without being closed is forgotten.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._lock = Lock()
        self._holders: WeakSet[Holder] = WeakSet()

    def enter(self, holder: Holder) -> None:
        """Count `holder` from now on."""
        with self._lock:
            self._holders.add(holder)

    def leave(self, holder: Holder) -> None:
        """Count it no longer; nothing happens if it was not counted."""
        with self._lock:
            self._holders.discard(holder)

    def planned_beside(self, holder: Holder | None) -> int:
        """Return what all but `holder` may come to."""
        with self._lock:
            others = [one for one in self._holders if one is not holder]
        return sum(one.planned_bytes for one in others)

    def beside(self, holder: Holder | None = None) -> Entry | None:
        """Return the item of all but `holder`, or None when there are no others."""
        with self._lock:
            others = [one for one in self._holders if one is not holder]
        if not others:
            return None
        held = sum(one.held_bytes for one in others)
        planned = sum(one.planned_bytes for one in others)
        return Entry(OTHER_ENGINES, "host", planned, held, held, "owner")
