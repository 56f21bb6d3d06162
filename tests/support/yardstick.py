"""A yardstick for tests of speed: work that never changes, timed where and when the test runs."""

import time
from collections.abc import Callable


def cpu_seconds(work: Callable[[], object], tries: int = 5) -> float:
    """Return the CPU time of `work` in this process, the least of several tries."""
    spent = []
    for _ in range(tries):
        begin = time.process_time()
        work()
        spent.append(time.process_time() - begin)
    return min(spent)


def loop_seconds() -> float:
    """Return the CPU time of a million rounds of an interpreted loop."""
    return cpu_seconds(_loop)


def _loop() -> int:
    total = 0
    for number in range(1_000_000):
        total += number & 7
    return total
