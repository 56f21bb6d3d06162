"""How long steps take, learnt from those that were run."""

from collections.abc import Callable

# (rows of a step) -> nanoseconds; must not fall when rows grow.
StepTime = Callable[[int], int]


class Pace:
    """Predicts the time of a step from its rows, on the safe side.

    Per power of two of rows it keeps the slowest recent step, which fades by an eighth with each
    faster one. Beyond the largest step seen, time grows in proportion to rows, which overestimates:
    a part of every step does not depend on rows. So the first chunks are short and double.
    """

    def __init__(self) -> None:
        """Know nothing yet."""
        self._seen: dict[int, tuple[int, int]] = {}

    def observe(self, num_rows: int, elapsed_ns: int) -> None:
        """Learn from a step."""
        bucket = num_rows.bit_length()
        _, before = self._seen.get(bucket, (0, 0))
        self._seen[bucket] = (num_rows, max(elapsed_ns, before - before // 8))

    def step_ns(self, num_rows: int) -> int:
        """Return the expected time of a step of `num_rows`, 0 before anything was seen."""
        below = above = (0, 0)
        for bucket in sorted(self._seen):
            known = self._seen[bucket]
            if known[0] <= num_rows:
                below = (known[0], max(known[1], below[1]))
            else:
                above = known
                break
        if above == (0, 0):
            return below[1] * num_rows // below[0] if below[0] else 0
        if below == (0, 0) or above[1] <= below[1]:
            return max(above[1], below[1])
        part = (above[1] - below[1]) * (num_rows - below[0]) // (above[0] - below[0])
        return below[1] + part


def most_rows(step_ns: StepTime, limit_ns: int, low: int, high: int) -> int:
    """Return the most rows from `low` to `high` whose step stays within `limit_ns`, else `low`."""
    while low < high:
        middle = (low + high + 1) // 2
        if step_ns(middle) <= limit_ns:
            low = middle
        else:
            high = middle - 1
    return low
