"""Watching a completion: are its steps as fast as forecast, and if not, why."""

from collections.abc import Callable

from tonnage.core.slowdown import SLOW, Counters, Fault, Stretch, faults_of

# Two stretches end before the fiftieth token.
STRETCH_TOKENS = 24


class Watch:
    """Compares steps with their forecast, stretch by stretch, and names each cause once.

    Between two stretches nothing is read; one reading of the counters takes about a tenth of a
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
        speed of the CPU's clock over what was measured; asked for when a stretch was slow.
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
        self.faults: list[Fault] = []
        self.slowness = 0.0

    def begin(self) -> None:
        """Begin a completion: a stretch that was not finished is dropped."""
        self._num_steps, self._measured_s = 0, 0.0

    def step(self, position: int, seconds: float) -> tuple[Fault, ...]:
        """Take a token behind `position` others; return the causes that were not named before."""
        if not self._num_steps:
            # What came before, a prompt or a pause, is not part of the stretch.
            self._before = self._sample()
        self._num_steps += 1
        self._measured_s += seconds
        if self._num_steps < STRETCH_TOKENS:
            return ()
        return self._end_stretch(position - STRETCH_TOKENS // 2)

    def _end_stretch(self, middle: int) -> tuple[Fault, ...]:
        # One forecast stands for all: it changes little from token to token, and takes time itself.
        slowness = self._measured_s / (STRETCH_TOKENS * self._forecast_s(max(0, middle)))
        self.begin()
        self.slowness = max(self.slowness, slowness)
        slow_before, self._slow_before = self._slow_before, slowness >= SLOW
        if slowness < SLOW:
            return ()
        after = self._sample()
        found = faults_of(
            Stretch(self._before, after, slowness, self._threads, self._cpus, self._clock())
        )
        known = {fault.cause for fault in self.faults}
        # What no counter shows has to last: a hiccup of one stretch is no slow memory.
        known |= set() if slow_before else {"memory"}
        new = tuple(fault for fault in found if fault.cause not in known)
        self.faults.extend(new)
        return new
