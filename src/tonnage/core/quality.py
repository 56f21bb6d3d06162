"""What was measured about a model's quality: a value that rooms hand on and files keep."""

import math
from typing import Literal

from tonnage.core.errors import RequestError
from tonnage.core.record import record


@record
class Estimate:
    """A figure and its 95 % confidence interval, which one chunk of text alone does not give."""

    value: float
    low: float | None
    high: float | None


@record
class Comparison:
    """A model against its reference on the same tokens.

    mean_kld, kld_median, kld_p99, kld_p999: mean, median, 99 % and 99.9 % quantile over all scored
    tokens of the Kullback-Leibler divergence of the model from the reference, in nats.
    top1_agreement: the share of tokens where both find the same one the likeliest. top5_agreement:
    the share of the reference's five likeliest that are the model's, too.
    """

    reference: str
    reference_precision: str | None
    perplexity: Estimate
    mean_kld: Estimate
    kld_median: float
    kld_p99: float
    kld_p999: float
    top1_agreement: float
    top5_agreement: float
    reference_kv_format: str = "f16"


@record
class AuditResult:
    """The quality of `model`, loaded at `precision` (None: as the file stands), on a text.

    num_scored: predicted tokens in `num_chunks` chunks. comparison: None without a reference.
    seconds: what measuring took, loading included. kv_format: of the pages of K and V. mix: the
    formats that its weights were loaded in, as tonnage.planner.quality.precision.mix_id names them;
    empty for those of the file. weights: words for a mix that a plan chose, else empty.
    """

    model: str
    precision: str | None
    text: str
    text_sha256: str
    num_chunks: int
    num_scored: int
    perplexity: Estimate
    comparison: Comparison | None
    isa: str
    seconds: float
    kv_format: str = "f16"
    mix: str = ""
    weights: str = ""


Basis = Literal["exact", "measured", "estimate"]
# Bounds by name, mean divergence in nats: `high` is what six and five bits cost a large model,
# `balanced` what four cost a small one, `small` what three do (docs/planning.md).
QUALITY_BOUNDS = {"lossless": 0.0, "high": 0.01, "balanced": 0.1, "small": 0.5}
DEFAULT_QUALITY = "balanced"


@record
class PlanQuality:
    """How far a planned model lies from the file as it stands.

    mean_kld: mean Kullback-Leibler divergence in nats. basis: `exact` is the file itself,
    `measured` an audit's, `estimate` a prediction whose truth lies between mean_kld / factor and
    mean_kld * factor in nine of ten cases; factor is 1 for the others. estimated_kld: what was
    predicted where it was measured since; the choice went by that.
    """

    mean_kld: float
    basis: Basis
    factor: float = 1.0
    estimated_kld: float | None = None


def quality_bound(wanted: str | float | None) -> float:
    """Return the most mean divergence, in nats, that a name or a number allows.

    None: the default. Raises RequestError for any other text, and for numbers below 0.
    """
    if wanted is None:
        return QUALITY_BOUNDS[DEFAULT_QUALITY]
    if isinstance(wanted, str) and wanted in QUALITY_BOUNDS:
        return QUALITY_BOUNDS[wanted]
    try:
        bound = float(wanted)
    except ValueError:
        bound = math.nan
    if isinstance(wanted, bool) or not 0 <= bound < math.inf:
        names = ", ".join(QUALITY_BOUNDS)
        raise RequestError(
            f"The quality {wanted!r} is unknown; use {names}, or the most mean KL divergence from "
            "the file in nats, such as 0.03."
        )
    return bound
