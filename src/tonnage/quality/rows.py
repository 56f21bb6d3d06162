"""Figures of one row of logits, in float64; the only module of the package that needs numpy."""

import numpy as np
from numpy.typing import NDArray

from tonnage.core.errors import LogitsError
from tonnage.core.record import record

TOP = 5


@record
class Row:
    """A row's logits less their largest, its log normalizer, and the likeliest token (the first).

    top5: the five likeliest.

    The log probability of token t is shifted[t] - log_total.
    """

    shifted: NDArray[np.float64]
    log_total: float
    top: int
    top5: frozenset[int]

    @staticmethod
    def of(logits: bytes, model: str) -> "Row":
        """Return the row of `model`'s float32 logits, given as bytes.

        Raises LogitsError, naming the model, if one is not finite.
        """
        values = np.frombuffer(logits, np.float32)
        if not np.isfinite(values).all():
            raise LogitsError(f"{model}: a logit is not finite; download the model again.")
        top = int(values.argmax())
        shifted = values.astype(np.float64)
        shifted -= shifted[top]
        count = min(TOP, len(values))
        top5 = frozenset(map(int, np.argpartition(values, -count)[-count:]))
        return Row(shifted, float(np.log(np.exp(shifted).sum())), top, top5)

    def negative_log_likelihood(self, token: int) -> float:
        """Return -log P(token), in nats."""
        return self.log_total - float(self.shifted[token])

    def divergence_from(self, reference: "Row") -> float:
        """Return the Kullback-Leibler divergence KL(reference || self), in nats; never negative.

        0 exactly when both have the same logits.
        """
        weights = np.exp(reference.shifted - reference.log_total)
        difference = reference.shifted - self.shifted
        inner = float(weights @ difference)
        return max(0.0, inner + self.log_total - reference.log_total)
