"""Demands on the figures of an audit."""

import math
import operator
import re
from collections.abc import Callable, Sequence

from tonnage.core.errors import RequestError
from tonnage.core.quality import AuditResult
from tonnage.core.record import record

_COMPARISONS: dict[str, Callable[[float, float], bool]] = {"<=": operator.le, ">=": operator.ge}
_OF_REFERENCE = (
    "mean_kld", "kld_median", "kld_p99", "kld_p999", "top1_agreement", "top5_agreement",
)  # fmt: skip
FIGURES = ("perplexity", *_OF_REFERENCE)
_FORM = re.compile(r"\s*(\w+)\s*(<=|>=)\s*(\S+)\s*")


@record
class Gate:
    """A figure has to be at most, or at least, some number."""

    figure: str
    comparison: str
    limit: float

    @staticmethod
    def parse(words: str) -> "Gate":
        """Return what `mean_kld<=0.01` asks for. Raises RequestError for anything else."""
        match = _FORM.fullmatch(words)
        if match is None or match[1] not in FIGURES:
            raise RequestError(
                f"The gate {words[:80]!r} is not understood; write FIGURE<=NUMBER or "
                f"FIGURE>=NUMBER with one of {', '.join(FIGURES)}."
            )
        try:
            limit = float(match[3])
        except ValueError:
            limit = math.nan
        if not math.isfinite(limit):
            raise RequestError(f"The gate {words[:80]!r} has no number behind {match[2]}.")
        return Gate(match[1], match[2], limit)

    def missed(self, result: AuditResult) -> str | None:
        """Return a sentence where the figure is not as demanded, None where it is."""
        value = self._figure(result)
        if _COMPARISONS[self.comparison](value, self.limit):
            return None
        demanded = f"{self.figure}{self.comparison}{self.limit:g}"
        return f"The gate {demanded} is missed: {self.figure} is {value:.6g}."

    def _figure(self, result: AuditResult) -> float:
        if self.figure == "perplexity":
            return result.perplexity.value
        assert result.comparison is not None
        if self.figure == "mean_kld":
            return result.comparison.mean_kld.value
        return float(getattr(result.comparison, self.figure))


def require_figures(gates: Sequence[Gate], *, has_reference: bool) -> None:
    """Raise RequestError for a gate on a figure that only a reference gives."""
    for gate in gates:
        if gate.figure in _OF_REFERENCE and not has_reference:
            raise RequestError(
                f"The gate on {gate.figure} needs a --reference to compare the model with."
            )
