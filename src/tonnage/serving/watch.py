"""Memory limits that change while an engine serves."""

from collections.abc import Callable

from tonnage.core.machine import Limits

CHECK_EVERY_NS = 2_000_000_000


class LimitWatch:
    """Re-reads the limits every two seconds and tells when one has changed.

    Only a changed limit counts, not what others in the same group take meanwhile: that moves all
    the time, and the kernel takes care of it.
    """

    def __init__(self, read: Callable[[], Limits], on_change: Callable[[int], None]) -> None:
        """read: takes a fraction of a millisecond; on_change: told the bytes of the process."""
        self._read = read
        self._on_change = on_change
        self._known = read().by_source
        self._next_ns = 0

    def __call__(self, now_ns: int) -> None:
        """Look if it is time to; called before every step."""
        if now_ns < self._next_ns:
            return
        self._next_ns = now_ns + CHECK_EVERY_NS
        limits = self._read()
        if limits.by_source != self._known:
            self._known = limits.by_source
            self._on_change(limits.process_bytes)
