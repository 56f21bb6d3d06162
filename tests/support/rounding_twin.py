"""The naive twin with the two roundings that the runtime makes on purpose.

Inputs of quantized matrices are int8 with one scale per 32, keys and values are float16, or int8
with one scale per token and head. What is left between it and the runtime is float32 arithmetic.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from support import naive_model
from tonnage.core.layout import FLOAT_FORMATS
from tonnage.core.model_spec import ModelSpec
from tonnage.core.plan import KvFormat
from tonnage.ops import reference

Tensor = Callable[[str], np.ndarray]
Forward = Callable[[ModelSpec, Tensor, Sequence[int]], np.ndarray]
U = float(np.finfo(np.float32).eps) / 2
# A sum of n roundings stays below 4 sqrt(n) u but with tiny probability (Higham & Mary 2019).
LAMBDA = 4


class QuantizedInputs:
    """A matrix that rounds what it is multiplied with: `x @ matrix.T`."""

    __array_ufunc__ = None  # numpy leaves x @ self to __rmatmul__

    def __init__(self, values: np.ndarray) -> None:
        self._values = values

    @property
    def T(self) -> "QuantizedInputs":
        return self

    def __rmatmul__(self, x: np.ndarray) -> np.ndarray:
        return reference.quantize(x.astype(np.float32)).values() @ self._values.T

    def __getitem__(self, rows: Sequence[int]) -> np.ndarray:
        return self._values[rows]


def rounded_forward(
    spec: ModelSpec, tensor: Tensor, formats: dict[str, str], tokens: Sequence[int],
    kv_format: KvFormat = "f16", forward: Forward = naive_model.forward,
) -> np.ndarray:  # fmt: skip
    """Return the logits of every position; formats: of matrices that differ from their file's.

    forward: the function of the naive twin whose rounded result is wanted instead.
    """

    def rounding(name: str) -> np.ndarray | QuantizedInputs:
        entry = spec.weights[name]
        is_plain = len(entry.shape) == 1 or formats.get(name, entry.format.name) in FLOAT_FORMATS
        return tensor(name) if is_plain else QuantizedInputs(tensor(name))

    head = naive_model._head
    rounded = _to_codes if kv_format == "int8" else _to_half

    def rounded_head(attn: object, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
        return head(attn, q, rounded(k), rounded(v))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(naive_model, "_head", rounded_head)
        return forward(spec, rounding, tokens)


def _to_half(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float32).astype(np.float16).astype(np.float64)


def _to_codes(x: np.ndarray) -> np.ndarray:
    return reference.kv_codes(x.astype(np.float32)).elements()


def allowed_share(spec: ModelSpec, num_tokens: int, has_codes: bool) -> float:
    """Return how far the runtime may be from this twin, relative to the deliberate roundings.

    Float32 arithmetic moves a value by d = LAMBDA sqrt(n) u of the largest beside it, n being the
    roundings on its way. The network amplifies d just as it amplifies a deliberate rounding, whose
    steps of size s have a mean square of s^2 / 12; and d makes a share 2 d / s of those land one
    step away, which has a mean square of 2 d s.

    Steps of int8 are so large that what lands elsewhere makes more land elsewhere in the next
    product, until both have independent roundings, whose difference is sqrt(2) of either.
    """
    if has_codes:
        return float(np.sqrt(2)) * (1 + scatter(num_tokens))
    longest = max(
        2 * spec.d_model
        + layer.mlp.hidden
        + layer.attention.num_heads * (layer.attention.k_dim + layer.attention.v_dim)
        + num_tokens
        for layer in spec.layers
    )
    drift = LAMBDA * np.sqrt(len(spec.layers) * longest + spec.d_model) * U
    step = float(np.finfo(np.float16).eps)
    return float(np.sqrt(12 * (drift / step) ** 2 + 24 * drift / step))


def scatter(num_tokens: int) -> float:
    """Return how far the ratio of two root mean squares over as many rows may be from 1."""
    return float(LAMBDA / np.sqrt(num_tokens))


def rms(x: np.ndarray) -> float:
    """Return the root mean square of all elements."""
    return float(np.sqrt((x * x).mean()))
