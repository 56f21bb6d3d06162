"""What was done lately when pages were short, for observers."""

from collections import deque
from collections.abc import Callable

MOST_EVENTS = 50


class Events:
    """The last 50 sentences, each with the time of its step; evictions in a row are one.

    now_ns: set before each step by the caller that knows the time.
    """

    def __init__(self, log: Callable[[str], None] | None) -> None:
        """log: gets every sentence but those of evictions, which are many."""
        self.now_ns = 0
        self._log = log
        self._all: deque[tuple[int, str]] = deque(maxlen=MOST_EVENTS)
        self._num_evicted = 0
        self._is_run = False

    def add(self, text: str) -> None:
        """Keep a sentence, and pass it on."""
        self._is_run = False
        self._all.append((self.now_ns, text))
        if self._log is not None:
            self._log(text)

    def evicted(self, count: int) -> None:
        """Count pages of unused prefixes that were given up."""
        if self._is_run:
            self._all.pop()
            count += self._num_evicted
        self._is_run, self._num_evicted = True, count
        self._all.append((self.now_ns, f"{count:,} pages of unused prefixes were evicted."))

    def last(self) -> tuple[tuple[int, str], ...]:
        """Return the times in nanoseconds and the sentences, the oldest first."""
        return tuple(self._all)
