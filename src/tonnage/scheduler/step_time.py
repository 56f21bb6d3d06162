"""How long steps take, estimated from those that were run."""

from collections.abc import Callable

# (rows of a step) -> nanoseconds; must not fall when rows grow.
StepTime = Callable[[int], int]
# A step shows what rows add if it has so many, and a quarter of them were seen alone.
_CLEAR_ROWS = 32
_SHORT_SHARE = 4


class StepTimeEstimator:
    """Predicts the time of a step from its rows, on the safe side.

    Per power of two of rows it keeps the slowest recent step, which fades by an eighth with each
    faster one. A row takes no longer among more rows, since a part of every step does not depend on
    them: so beyond the largest step seen time grows in proportion, and a short step bounds what is
    believed of longer ones, or one slow step would keep chunks short for ever. It bounds them from
    below too: further back in a prompt a row takes longer, and what was seen of longer steps at its
    beginning would promise too much.
    """

    def __init__(self) -> None:
        """Know nothing yet."""
        self._seen: dict[int, tuple[int, int]] = {}

    def observe(self, num_rows: int, elapsed_ns: int) -> None:
        """Learn from a step."""
        bucket = num_rows.bit_length()
        rows, before = self._seen.get(bucket, (num_rows, 0))
        before = before * min(rows, num_rows) // rows
        self._seen[bucket] = (num_rows, max(elapsed_ns, before - before // 8))
        base, base_ns = self._base(num_rows, elapsed_ns)
        for larger, (rows, known) in self._seen.items():
            if larger > bucket:
                most = elapsed_ns * rows // num_rows
                more = (elapsed_ns - base_ns) * (rows - num_rows) // (num_rows - base)
                self._seen[larger] = (rows, min(max(known, elapsed_ns + more), most))

    def _base(self, num_rows: int, elapsed_ns: int) -> tuple[int, int]:
        """Return a much shorter step, from which on rows add to the time; else one as long.

        A slow step with few rows allows no conclusion.
        """
        short = [seen for seen in self._seen.values() if _SHORT_SHARE * seen[0] <= num_rows]
        rows, known = max(short, default=(0, elapsed_ns))
        if num_rows < _CLEAR_ROWS or known > elapsed_ns:
            return 0, elapsed_ns
        return rows, known

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
