"""What was measured about a model's quality: a value that rooms hand on and files keep."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its 95 % confidence interval, which one chunk of text alone does not give."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """A model against its reference on the same tokens.

    mean_kld, kld_p999: mean and 99.9 % quantile over all scored tokens of the Kullback-Leibler
    divergence of the model from the reference, in nats. top1_agreement: the share of tokens where
    both find the same one the likeliest.
    """

    reference: str
    reference_precision: str | None
    perplexity: Estimate
    mean_kld: Estimate
    kld_p999: float
    top1_agreement: float
    reference_kv_format: str = "f16"


@dataclass(frozen=True, slots=True)
class AuditResult:
    """The quality of `model`, loaded at `precision` (None: as the file stands), on a text.

    num_scored: predicted tokens in `num_chunks` chunks. comparison: None without a reference.
    seconds: what measuring took, loading included. kv_format: of the pages of K and V.
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
