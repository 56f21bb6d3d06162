"""How many bytes KV pages may take while limits, or what else counts to them, change.

Two figures bound the pages. One goes by the plan: what the limits leave when all else comes to what
was planned for it. It is the smaller one, and nothing that the pages do moves it; so it is where
they go when a limit changes, and how far they grow. The other goes by what is there: resident pages
and what is free. It says when something has to be given up though no limit has changed. Between
the two nothing is done, so that noise moves nothing.

Pressure stall information (PSI) is not used: version 2 alone has it, and it is about reclaim, which
does no harm while there are files to take.
"""

from collections.abc import Callable, Mapping

from tonnage.core.record import record

LOOK_EVERY_NS = 2_000_000_000
LOOK_SOON_NS = 100_000_000
GROW_AFTER_NS = 10_000_000_000
# The kernel charges up to 64 pages per CPU ahead, so that readings differ even at rest.
_LEAST_MARGIN_BYTES = 1 << 20
_MARGIN_PART = 16


@record
class Bounds:
    """What limits leave for KV pages; less than 0 where all else exceeds them.

    by_source: the limits. planned_bytes: when all else comes to its plan. real_bytes: as all else
    stands now: resident pages and what is free.
    """

    by_source: Mapping[str, int]
    planned_bytes: int
    real_bytes: int


class LimitWatch:
    """Looks at the bounds every two seconds, ten times a second when they are near.

    A changed limit is followed, up and down, after a second reading 0.1 s later: the kernel's own
    figures lag. Otherwise pages are given up when two readings in a row leave less than they may
    take, and taken back when for ten seconds there was more than a margin above them. Readings that
    differ by less than half a margin move nothing twice.
    """

    def __init__(
        self,
        full_bytes: int,
        read: Callable[[], Bounds],
        on_change: Callable[[int], None],
    ) -> None:
        """full_bytes: of all pages; read takes under a millisecond; on_change: called then."""
        self.num_bytes = full_bytes
        self._full_bytes = full_bytes
        self._margin_bytes = max(_LEAST_MARGIN_BYTES, full_bytes // _MARGIN_PART)
        self._read = read
        self._on_change = on_change
        first = read()
        self._known = first.by_source
        self._last_real_bytes = first.real_bytes
        self._next_ns = 0
        self._first_safe_bytes: int | None = None  # of two readings of a changed limit
        self._spare_since_ns: int | None = None
        self._least_spare_bytes = 0

    def __call__(self, now_ns: int) -> None:
        """Look if it is time to; called before every step."""
        if now_ns < self._next_ns:
            return
        bounds = self._read()
        changed = bounds.by_source != self._known
        if self._first_safe_bytes is not None and not changed:
            num_bytes = max(self._first_safe_bytes, self._safe(bounds))
        else:
            num_bytes = self._kept(bounds, now_ns)
        self._first_safe_bytes = self._safe(bounds) if changed else None
        num_bytes = max(0, min(num_bytes, self._full_bytes))
        self._known, self._last_real_bytes = bounds.by_source, bounds.real_bytes
        near = changed or bounds.real_bytes < num_bytes + self._margin_bytes
        self._next_ns = now_ns + (LOOK_SOON_NS if near else LOOK_EVERY_NS)
        if num_bytes != self.num_bytes:
            self.num_bytes = num_bytes
            self._spare_since_ns = None
            self._on_change(num_bytes)

    def _safe(self, bounds: Bounds) -> int:
        """Return what the plan leaves, if that much is there."""
        return min(bounds.planned_bytes, bounds.real_bytes - self._margin_bytes // 2)

    def _kept(self, bounds: Bounds, now_ns: int) -> int:
        """Return what pages may take where the limits are the same as before."""
        real = max(bounds.real_bytes, self._last_real_bytes)
        if real < self.num_bytes:
            return real - self._margin_bytes // 2
        safe = self._safe(bounds)
        if self.num_bytes == self._full_bytes or safe < self.num_bytes + self._margin_bytes:
            self._spare_since_ns = None
            return self.num_bytes
        if self._spare_since_ns is None:
            self._spare_since_ns, self._least_spare_bytes = now_ns, safe
        self._least_spare_bytes = min(self._least_spare_bytes, safe)
        long_enough = now_ns - self._spare_since_ns >= GROW_AFTER_NS
        return self._least_spare_bytes if long_enough else self.num_bytes
