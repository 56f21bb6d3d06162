"""Watching a completion: are its steps as fast as forecast, and if not, why."""

from collections.abc import Callable

from tonnage.core.slowdown import SLOW, Counters, Slowdown, Window, slowdowns_of

# Two windows end before the fiftieth token.
WINDOW_TOKENS = 24


class Watch:
    """Compares steps with their forecast, window by window, and names each cause once.

    Between two windows nothing is read; one reading of the counters takes about a tenth of a
    millisecond.
    """

    def __init__(
        self,
        forecast_s: Callable[[int], float],
        sample: Callable[[], Counters],
        clock: Callable[[], float],
        *,
        threads: int,
        cpus: int,
    ) -> None:
        """Take the parts.

        forecast_s: seconds of a token behind so many others. sample: reads the counters. clock:
        speed of the CPU's clock over what was measured; asked for when a window was slow.
        """
        self._forecast_s = forecast_s
        self._sample = sample
        self._clock = clock
        self._threads = threads
        self._cpus = cpus
        self._before = sample()
        self._num_steps = 0
        self._measured_s = 0.0
        self._slow_before = False
        self.slowdowns: list[Slowdown] = []
        self.slowness = 0.0

    def begin(self) -> None:
        """Begin a completion: a window that was not finished is dropped."""
        self._num_steps, self._measured_s = 0, 0.0

    def step(self, position: int, seconds: float) -> tuple[Slowdown, ...]:
        """Take a token behind `position` others; return the causes that were not named before."""
        if not self._num_steps:
            # What came before, a prompt or a pause, is not part of the window.
            self._before = self._sample()
        self._num_steps += 1
        self._measured_s += seconds
        if self._num_steps < WINDOW_TOKENS:
            return ()
        return self._end_window(position - WINDOW_TOKENS // 2)

    def _end_window(self, middle: int) -> tuple[Slowdown, ...]:
        # One forecast stands for all: it changes little from token to token, and takes time itself.
        slowness = self._measured_s / (WINDOW_TOKENS * self._forecast_s(max(0, middle)))
        self.begin()
        self.slowness = max(self.slowness, slowness)
        slow_before, self._slow_before = self._slow_before, slowness >= SLOW
        if slowness < SLOW:
            return ()
        after = self._sample()
        found = slowdowns_of(
            Window(self._before, after, slowness, self._threads, self._cpus, self._clock())
        )
        known = {slowdown.cause for slowdown in self.slowdowns}
        # What no counter shows has to last: a hiccup of one window is no slow memory.
        known |= set() if slow_before else {"memory"}
        new = tuple(slowdown for slowdown in found if slowdown.cause not in known)
        self.slowdowns.extend(new)
        return new
