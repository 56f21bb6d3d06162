"""The reference transformer with the two roundings that the runtime makes on purpose.

Inputs of quantized matrices are int8 with one scale per 32 elements. Keys and values are float16,
or int8 with one float16 scale per token and head (docs/kernels.md). What is left between this and
the runtime is float32 arithmetic.
"""

from collections.abc import Callable, Sequence, Set
from typing import Literal

import numpy as np

from oracles.transformer import Model, Store, Tensor, forward

Forward = Callable[[Model, Tensor, Sequence[int], Store], np.ndarray]
U = float(np.finfo(np.float32).eps) / 2
HALF_MAX = float(np.finfo(np.float16).max)
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
        return to_activation_codes(x) @ self._values.T

    def __getitem__(self, rows: Sequence[int]) -> np.ndarray:
        return self._values[rows]


def rounded_forward(
    model: Model, tensor: Tensor, coded: Set[str], token_ids: Sequence[int],
    kv_format: Literal["f16", "int8"] = "f16", of: Forward = forward,
) -> np.ndarray:  # fmt: skip
    """Return what `of` gives (logits, by default) with both roundings.

    coded: names of the matrices whose inputs are int8.
    """

    def rounding(name: str) -> np.ndarray | QuantizedInputs:
        return QuantizedInputs(tensor(name)) if name in coded else tensor(name)

    return of(model, rounding, token_ids, to_kv_codes if kv_format == "int8" else to_half)


def to_activation_codes(x: np.ndarray) -> np.ndarray:
    """Return x (T, elements) on the grid of int8 codes, one scale of largest / 127 per 32.

    The last scale may be of fewer elements.
    """
    whole = np.pad(x, ((0, 0), (0, -x.shape[1] % 32)))
    blocks = whole.astype(np.float32).astype(np.float64).reshape(len(x), -1, 32)
    scales = np.abs(blocks).max(axis=2, keepdims=True) / 127
    codes = np.rint(blocks / np.where(scales > 0, scales, 1))
    return (codes * scales.astype(np.float32)).reshape(whole.shape)[:, : x.shape[1]]


def to_half(x: np.ndarray) -> np.ndarray:
    """Return x rounded to float32, then to float16."""
    return x.astype(np.float32).astype(np.float16).astype(np.float64)


def to_kv_codes(x: np.ndarray) -> np.ndarray:
    """Return x (T, elements) on the grid of int8 codes, one float16 scale per token.

    Codes follow from the scale as it is stored.
    """
    within = np.clip(x, -HALF_MAX, HALF_MAX).astype(np.float32).astype(np.float64)
    scales = (np.abs(within).max(axis=-1, keepdims=True) / 127).astype(np.float16)
    steps = scales.astype(np.float64)
    codes = np.rint(within / np.where(steps > 0, steps, 1))
    return np.clip(codes, -127, 127) * steps


def allowed_share(model: Model, num_tokens: int, has_codes: bool) -> float:
    """Return how far the runtime may be from this, relative to the deliberate roundings.

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
        2 * model.d_model
        + layer.hidden
        + layer.attention.num_heads * (layer.attention.k_dim + layer.attention.v_dim)
        + num_tokens
        for layer in model.layers
    )
    drift = LAMBDA * np.sqrt(len(model.layers) * longest + model.d_model) * U
    step = float(np.finfo(np.float16).eps)
    return float(np.sqrt(12 * (drift / step) ** 2 + 24 * drift / step))


def scatter(num_tokens: int) -> float:
    """Return how far the ratio of two root mean squares over as many rows may be from 1."""
    return float(LAMBDA / np.sqrt(num_tokens))


def rms(x: np.ndarray) -> float:
    """Return the root mean square of all elements."""
    return float(np.sqrt((x * x).mean()))
