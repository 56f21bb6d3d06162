"""What quality a choice of formats is predicted to cost, from errors of formats and sensitivities.

Quantizing a matrix adds noise to its products. To first order the mean divergence is the sum over
all matrices of the squared relative error of the new format times how much that kind of matrix
matters; each of L layers adds its share of the residual stream.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from tonnage.core.model_spec import ModelSpec


@dataclass(frozen=True, slots=True)
class QualityEstimate:
    """A predicted mean Kullback-Leibler divergence from the file as it stands, in nats.

    factor: how far off the estimator is known to be: nine of ten measured divergences lie between
    mean_kld / factor and mean_kld * factor.
    """

    mean_kld: float
    factor: float


# Root mean square error of a format over the root mean square of the weights.
RELATIVE_ERROR = {
    "Q8_0": 0.0055, "Q6_K": 0.016, "Q5_K": 0.033, "Q5_1": 0.033, "Q5_0": 0.039, "Q4_K": 0.067,
    "Q4_1": 0.069, "IQ4_NL": 0.072, "IQ4_XS": 0.073, "Q3_K": 0.15, "Q2_K": 0.26,
}  # fmt: skip

# Divergence per squared relative error, of all layers' matrices of a kind together.
SENSITIVITY = {
    "embed": 2.0, "head": 2.0, "q": 0.5, "k": 0.5, "v": 2.0, "o": 1.5, "gate": 1.5, "up": 2.0,
    "down": 3.0,
}  # fmt: skip
KNOWN_FACTOR = 4.0


def kind_of(name: str) -> str:
    """Return the kind of a matrix: `down` of `layers.3.down`."""
    return name.rsplit(".", 1)[-1]


def loss_of(spec: ModelSpec, name: str, fmt: str) -> float:
    """Return what matrix `name` adds to the divergence as `fmt`; 0 in its own format."""
    if fmt == spec.weights[name].format.name:
        return 0.0
    share = len(spec.layers) if name.startswith("layers.") else 1
    return SENSITIVITY[kind_of(name)] * RELATIVE_ERROR[fmt] ** 2 / share


def estimate(
    spec: ModelSpec, formats: Iterable[tuple[str, str]], kv_format: str = "f16"
) -> QualityEstimate:
    """Return the predicted divergence of `spec` with `formats` (name, format) from the file."""
    loss = sum(loss_of(spec, name, fmt) for name, fmt in formats)
    if kv_format == "int8":
        loss += sum(SENSITIVITY[kind] * RELATIVE_ERROR["Q8_0"] ** 2 for kind in ("k", "v"))
    return QualityEstimate(loss, KNOWN_FACTOR)
