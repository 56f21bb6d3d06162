"""The ledger: what was planned beside what is there."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from tonnage.core.plan import Kind

Measure = Literal["pages", "owner", "growth", "sizes", "assumed"]


@dataclass(frozen=True, slots=True)
class Entry:
    """An item of the plan, now and at its peak.

    measured_by: `pages`, resident pages that the kernel counts; `growth`, how much the process grew
    when it was made; `owner`, the bytes its owner has allocated; `sizes`, buffers that come and go
    with one load or answer, at most of their planned sizes; `assumed`, as planned because this
    system tells nothing. model: whose item it is where a process has several, "" for its own.
    """

    name: str
    kind: Kind
    planned_bytes: int
    now_bytes: int
    peak_bytes: int
    measured_by: Measure
    model: str = ""


@dataclass(frozen=True, slots=True)
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
