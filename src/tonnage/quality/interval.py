"""Means with a confidence interval, and quantiles."""

import math
from collections.abc import Sequence

from tonnage.core.quality import Estimate

_NORMAL_975 = 1.959963984540054
# The series below needs some degrees of freedom; these two have closed forms.
_T_975: dict[int, float] = {1: 12.706204736174694, 2: 4.302652729749462}


def student_t_975(degrees: int) -> float:
    """Return the 97.5 % quantile of Student's t distribution, within 0.2 %.

    The expansion of Abramowitz & Stegun, 26.7.5.
    """
    if degrees in _T_975:
        return _T_975[degrees]
    z = _NORMAL_975
    terms: tuple[float, ...] = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / float(degrees) ** power for power, term in enumerate(terms, 1))


def mean_interval(chunk_means: Sequence[float]) -> Estimate:
    """Return the mean of `chunk_means` (at least one) and its 95 % confidence interval.

    For figures that are never negative; an interval ends at 0. Chunks of equal length count as
    independent draws; the tokens within one do not, since what makes one of them hard makes its
    neighbours hard too. Chunks that follow each other in one text are alike as well, and their
    interval is then too short for the text as a whole (docs/decisions/0018).
    """
    count = len(chunk_means)
    mean = math.fsum(chunk_means) / count
    if count < 2:
        return Estimate(mean, None, None)
    variance = math.fsum((value - mean) ** 2 for value in chunk_means) / (count - 1)
    half = student_t_975(count - 1) * math.sqrt(variance / count)
    return Estimate(mean, max(0.0, mean - half), mean + half)


def exponential(estimate: Estimate) -> Estimate:
    """Return e to the power of an estimate and of its bounds.

    A mean negative log-likelihood becomes a perplexity.
    """
    low, high = (None if bound is None else _exp(bound) for bound in (estimate.low, estimate.high))
    return Estimate(_exp(estimate.value), low, high)


def quantile(values: Sequence[float], share: float) -> float:
    """Return the quantile at `share` (0 to 1), linear between neighbours (R's type 7)."""
    ordered = sorted(values)
    below, rest = divmod(share * (len(ordered) - 1), 1.0)
    index = int(below)
    if index + 1 == len(ordered):
        return ordered[index]
    return ordered[index] + rest * (ordered[index + 1] - ordered[index])


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf
