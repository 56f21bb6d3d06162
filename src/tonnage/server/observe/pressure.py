"""A log of what gives way when pages are short; it may be hundreds of sentences a second."""

from collections.abc import Callable
from time import monotonic


class PressureLog:
    """Logs at most a line a second, and how many were left out."""

    def __init__(self, emit: Callable[[str], None]) -> None:
        """emit: takes a line."""
        self._emit = emit
        self._next_s = 0.0
        self._num_left_out = 0

    def __call__(self, sentence: str) -> None:
        """Log `sentence`, or count it."""
        now = monotonic()
        if now < self._next_s:
            self._num_left_out += 1
            return
        more = f" ({self._num_left_out:,} more before)" if self._num_left_out else ""
        self._next_s, self._num_left_out = now + 1, 0
        self._emit(f"{sentence}{more}")
