"""What a step of so many rows takes, from what steps took."""

from collections.abc import Callable

# Of an estimate, how much an observation moves it, and how much above it one counts as a stall.
_WEIGHT = 1 / 8
_MOST = 1.5


class StepPrices:
    """Times of steps that decode, by rows; those not seen yet follow the forecast's shape."""

    def __init__(self, forecast_s: Callable[[int], float]) -> None:
        """forecast_s: rows of a step -> seconds, by any measure that holds for all rows."""
        self._forecast_s = forecast_s
        self._forecasts: dict[int, float] = {}
        self._seen: dict[int, float] = {}
        self._scale = 0.0  # nanoseconds per second of the forecast

    def observe(self, num_rows: int, elapsed_ns: int) -> None:
        """Learn from a step."""
        known = self._seen.get(num_rows)
        if known is None:
            self._seen[num_rows] = float(elapsed_ns)
        else:
            self._seen[num_rows] = known + _WEIGHT * (min(elapsed_ns, _MOST * known) - known)
        scale = self._seen[num_rows] / self._forecast(num_rows)
        self._scale += (scale - self._scale) * (_WEIGHT if self._scale else 1)

    def ns(self, num_rows: int) -> float:
        """Return the time of a step of `num_rows`; before any was seen only ratios mean something.

        Never less than what fewer rows take.
        """
        own = self._seen.get(num_rows, (self._scale or 1.0) * self._forecast(num_rows))
        fewer = (ns for rows, ns in self._seen.items() if rows < num_rows)
        return max(own, max(fewer, default=0.0))

    def _forecast(self, num_rows: int) -> float:
        if num_rows not in self._forecasts:
            self._forecasts[num_rows] = self._forecast_s(num_rows)
        return self._forecasts[num_rows]
