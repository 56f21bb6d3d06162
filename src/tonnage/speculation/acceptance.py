"""How often drafts turn out right, by how much of the text before them was equal."""

from collections.abc import Iterator

from tonnage.speculation.suffix import LONGEST

# Shares of drafts that are expected to be right before any was seen, by `grade`.
_PRIOR = (0.4, 0.6, 0.8)
# What the prior counts as, in drafts, and how fast old drafts are forgotten.
_PRIOR_WEIGHT = 4.0
_KEPT = 0.95


def grade(length: int) -> int:
    """Return 0, 1 or 2 for a short, a longer and the longest match of so many tokens."""
    return 0 if length < LONGEST // 2 else 1 if length < LONGEST else 2


class Acceptance:
    """Counts drafts that were right and wrong; forgets slowly, so that a text may change."""

    def __init__(self, prior: "Acceptance | None" = None) -> None:
        """prior: what is expected at first, such as of all requests together."""
        shares = _PRIOR if prior is None else tuple(prior.share(one) for one in range(len(_PRIOR)))
        self._right = [_PRIOR_WEIGHT * share for share in shares]
        self._all = [_PRIOR_WEIGHT] * len(shares)

    def share(self, grade_: int) -> float:
        """Return the expected share of right drafts among those behind right ones."""
        return self._right[grade_] / self._all[grade_]

    def observe(self, grade_: int, num_right: int, *, has_failed: bool) -> None:
        """Count drafts that were right, and the wrong one behind them if there was one."""
        for is_right in _each(num_right, has_failed=has_failed):
            self._right[grade_] = self._right[grade_] * _KEPT + is_right
            self._all[grade_] = self._all[grade_] * _KEPT + 1


def _each(num_right: int, *, has_failed: bool) -> Iterator[bool]:
    yield from [True] * num_right
    if has_failed:
        yield False


def expected_tokens(share: float, num_drafts: int) -> float:
    """Return how many tokens a sequence's rows give: 1 + share + ... + share ** num_drafts.

    Leviathan et al. 2023, equation 1.
    """
    return sum(share**number for number in range(num_drafts + 1))
