"""What quality a choice of formats is predicted to cost, from errors of formats and sensitivities.

Quantizing a matrix adds noise to its products. To first order the mean divergence is the sum over
all matrices of the squared relative error of the new format times how much that kind of matrix
matters; each of L layers adds its share of the residual stream, and wider models average noise out.
Any change at all rounds all activations anew, which costs something by itself.

The constants are measured: `bench/quality_estimator.py`, figures in docs/results/quality.md.
"""

from collections.abc import Iterable

from tonnage.blocks.head import SENSITIVITY
from tonnage.core.kv_format import BY_NAME
from tonnage.core.model_spec import ModelSpec
from tonnage.core.record import record


@record
class QualityEstimate:
    """A predicted mean Kullback-Leibler divergence from the file as it stands, in nats.

    factor: how far off the estimator is known to be: of models that it was not fitted to, nine of
    ten measured divergences lay between mean_kld / factor and mean_kld * factor.
    """

    mean_kld: float
    factor: float


# Squared relative error of each format (mean square error over mean square of the weights): the
# median over the matrices of four models, from the formats that their files have; Q8_0 and Q6_K,
# which none of these matrices can go down to, on random normal values.
SQUARED_ERROR = {
    "Q8_0": 2.9e-5, "Q6_K": 2.98e-4, "Q5_K": 1.33e-3, "Q5_1": 1.39e-3, "Q5_0": 1.98e-3,
    "Q4_1": 5.39e-3, "Q4_K": 5.44e-3, "IQ4_NL": 5.83e-3, "IQ4_XS": 5.8e-3, "Q3_K": 2.15e-2,
    "Q2_K": 7.08e-2,
}  # fmt: skip
# Sixteen steps of a file fall on steps of the new format more often than any values would.
SQUARED_ERROR_FROM = {
    ("Q4_1", "Q4_K"): 1.63e-4, ("Q4_1", "IQ4_NL"): 4.2e-3, ("Q4_1", "IQ4_XS"): 4.3e-3,
    ("Q4_K", "IQ4_XS"): 4.3e-3,
}  # fmt: skip

ANY_CHANGE = 1.75e-3
REFERENCE_WIDTH = 1024
WIDTH_EXPONENT = 1.0
KNOWN_FACTOR = 2.4


def squared_error(own: str, fmt: str) -> float:
    """Return what a matrix of format `own` loses as `fmt`, over its mean square."""
    if own == fmt:
        return 0.0
    return SQUARED_ERROR_FROM.get((own, fmt), SQUARED_ERROR[fmt])


def sensitivity(spec: ModelSpec, name: str) -> float:
    """Return the divergence per squared relative error of one matrix, at REFERENCE_WIDTH.

    Its block states that of all layers together; a table that is embedding and head counts twice.
    """
    if not name.startswith("layers."):
        return SENSITIVITY[name] * (2.0 if name == "embed" and spec.tied_head else 1.0)
    _, index, role = name.split(".")
    return spec.layers[int(index)].sensitivity(role) / len(spec.layers)


def loss_of(spec: ModelSpec, name: str, fmt: str) -> float:
    """Return what matrix `name` adds to the divergence as `fmt`; 0 in its own format."""
    error = squared_error(spec.weights[name].format.name, fmt)
    return sensitivity(spec, name) * error * width_factor(spec.d_model)


def width_factor(d_model: int) -> float:
    """Return how much more a model of that width suffers than one of REFERENCE_WIDTH."""
    return float((REFERENCE_WIDTH / d_model) ** WIDTH_EXPONENT)


def estimate(
    spec: ModelSpec, formats: Iterable[tuple[str, str]], kv_format: str = "f16"
) -> QualityEstimate:
    """Return the predicted divergence of `spec` with `formats` (name, format) from the file.

    kv_format: `f16` costs nothing.
    """
    loss = sum(loss_of(spec, name, fmt) for name, fmt in formats)
    if loss > 0:
        loss += ANY_CHANGE * width_factor(spec.d_model)
    loss += BY_NAME[kv_format].divergence * width_factor(spec.d_model)
    return QualityEstimate(loss, KNOWN_FACTOR)


def loss_of_file(spec: ModelSpec) -> float | None:
    """Return the divergence, in nats, of a file's formats from weights in 16 bits, roughly.

    It is told by the same errors and sensitivities as what a plan loses; no audit has compared it.
    None for a file with a format whose error was never measured.
    """
    matrices = {name: one for name, one in spec.weights.items() if len(one.shape) == 2}
    loss = 0.0
    for name, one in matrices.items():
        if one.format.name in ("F32", "F16", "BF16"):
            continue
        if one.format.name not in SQUARED_ERROR:
            return None
        loss += sensitivity(spec, name) * SQUARED_ERROR[one.format.name]
    return loss * width_factor(spec.d_model)
