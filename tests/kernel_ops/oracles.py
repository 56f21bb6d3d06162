"""The oracle of every kernel: its contract in float64, one plain line where possible."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from kernel_ops.arena import Activations, Floats, Matrix, Span
from kernel_ops.attention import Coded, Heads, Pages, Rotation
from tonnage.formats.codec import dequantize

Array = npt.NDArray[np.float64]


def weight(matrix: Matrix) -> Array:
    """Return a matrix's values."""
    return dequantize(matrix.format, matrix.data, matrix.shape).astype(np.float64)


def quantize(x: Floats) -> Activations:
    """Return int8 codes, one scale of largest / 127 per 32, codes rounded half to even."""
    blocks = x.reshape(len(x), -1, 32).astype(np.float64)
    scales = np.abs(blocks).max(axis=2) / 127
    codes = np.rint(blocks / np.where(scales > 0, scales, 1)[..., None]).astype(np.int8)
    return Activations(codes.reshape(x.shape), scales.astype(np.float32))


def values(x: Activations | Floats) -> Array:
    """Return activations of either form."""
    return x.values() if isinstance(x, Activations) else x.astype(np.float64)


def embed(table: Matrix, tokens: Sequence[int], scale: float) -> Array:
    """Return scale * table[tokens]."""
    return scale * weight(table)[list(tokens)]


def matmul(matrix: Matrix, x: Activations | Floats) -> Array:
    """Return x · weightᵀ."""
    return values(x) @ weight(matrix).T


def rmsnorm(x: npt.NDArray[np.floating], gain: npt.NDArray[np.floating], eps: float) -> Array:
    """Return x over its root mean square along the last axis, times `gain`."""
    wide = x.astype(np.float64)
    mean_square: Array = (wide * wide).mean(axis=-1, keepdims=True)
    return wide / np.sqrt(mean_square + eps) * gain.astype(np.float64)


def layernorm(x: npt.NDArray[np.floating], gain: Floats, bias: Floats | None, eps: float) -> Array:
    """Return x less its mean, over its standard deviation, times `gain`, plus `bias`."""
    wide = x.astype(np.float64)
    spread = wide - wide.mean(axis=-1, keepdims=True)
    normed = rmsnorm(spread, gain, eps)
    return normed if bias is None else normed + bias


def add_norm(x: Floats, branch: Floats, gain: Floats, eps: float) -> Array:
    """Return x + rmsnorm(branch) * gain."""
    return x + rmsnorm(branch, gain, eps)


def pool(x: npt.NDArray[np.floating], gain: Floats, eps: float) -> Array:
    """Return the sum of the rows of rmsnorm(x) * gain."""
    total: Array = rmsnorm(x, gain, eps).sum(axis=0)
    return total


def softcap(x: Array, cap: float) -> Array:
    """Return cap * tanh(x / cap), or x when cap is 0."""
    return cap * np.tanh(x / cap) if cap else x


def activate(x: npt.NDArray[np.floating], activation: str) -> Array:
    """Return silu(x), or GELU, itself or in its tanh form."""
    wide = x.astype(np.float64)
    if activation == "relu2":
        squared: Array = wide.clip(0) ** 2
        return squared
    if activation == "gelu":
        share: Array = np.vectorize(lambda value: math.erfc(-value / math.sqrt(2)) / 2)(wide)
        return wide * share
    # 0.5 (1 + tanh z) is 1 / (1 + e^-2z), which stays exact for negative z.
    twice = wide if activation == "silu" else np.sqrt(8 / np.pi) * (wide + 0.044715 * wide**3)
    with np.errstate(over="ignore"):
        denominator: Array = 1 + np.exp(-twice)
    return wide / denominator


def gated(gate: Matrix, up: Matrix, x: Activations | Floats, activation: str) -> Array:
    """Return activation(gate · x) * (up · x)."""
    return activate(matmul(gate, x), activation) * matmul(up, x)


def positions(spans: Sequence[Span]) -> npt.NDArray[np.int64]:
    """Return the position of every row."""
    ranges = [np.arange(s.position, s.position + s.num_rows) for s in spans]
    return np.concatenate(ranges)


def rope_table(frequencies: Floats, spans: Sequence[Span]) -> Array:
    """Return cosines and sines (R, 2, pairs)."""
    angles = positions(spans)[:, None] * frequencies.astype(np.float64)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def qk_norm(qkv: Floats, heads: Heads, q_norm: Floats, k_norm: Floats, eps: float) -> Array:
    """Return qkv (R, cols) with queries and keys normed, each over all heads of a row."""
    q, k, v = (part.reshape(len(qkv), -1) for part in heads.split(qkv))
    return np.concatenate([rmsnorm(q, q_norm, eps), rmsnorm(k, k_norm, eps), v], axis=1)


def rope(
    qkv: Floats, heads: Heads, rotation: Rotation
) -> tuple[Array, Array, npt.NDArray[np.float64]]:
    """Return q (R, heads, k_dim) rotated and scaled, k rotated, v as it was."""
    q, k, v = (part.astype(np.float64) for part in heads.split(qkv))
    if rotation.q_norm is not None:
        q = rmsnorm(q, rotation.q_norm, rotation.eps)
    if rotation.k_norm is not None:
        k = rmsnorm(k, rotation.k_norm, rotation.eps)
    return rotation.scale * _rope(q, rotation), _rope(k, rotation), v


def rope_int8(
    qkv: Floats, heads: Heads, rotation: Rotation
) -> tuple[Array, Array, npt.NDArray[np.float64]]:
    """Return q as `rope` does, and k and v Hadamard-rotated as int8 pages hold them.

    k loses its low-frequency bias first. Zeros fill heads up to multiples of 16. The matrix is
    Hadamard's of the largest power of two that divides that; the factors of k and q, and of v and
    what is attended, are powers of two.
    """
    q, k, v = rope(qkv, heads, rotation)
    if rotation.k_bias is not None:
        k = k - np.where(_low_frequency(heads.k_dim, rotation), rotation.k_bias, 0)
    return q, rotated(k, 0), rotated(v, 0)


def whole(x: npt.NDArray[np.floating]) -> Array:
    """Return x (..., size) with zeros up to a multiple of 16."""
    wide = x.astype(np.float64)
    return np.pad(wide, (*[(0, 0)] * (x.ndim - 1), (0, -x.shape[-1] % 16)))


def rotated(x: npt.NDArray[np.floating], side: int) -> Array:
    """Return heads (..., size), filled up with zeros and Hadamard-rotated.

    side: which of `hadamard_factors`.
    """
    filled = whole(x)
    return hadamard_factors(filled.shape[-1])[side] * hadamard(filled)


def queries(qkv: Floats, heads: Heads, kv_format: str) -> Array:
    """Return q (R, heads, size) as keys of pages in `kv_format` are multiplied with it."""
    q = heads.split(qkv)[0].astype(np.float64)
    return rotated(q, 1) if kv_format == "int8" else q


def _low_frequency(k_dim: int, rotation: Rotation) -> npt.NDArray[np.bool_]:
    pairs = rotation.table.shape[2]
    element = np.arange(k_dim)
    pair = element // 2 if rotation.interleaved else element % pairs
    low: npt.NDArray[np.bool_] = (pair >= rotation.low_from) | (element >= 2 * pairs)
    return low


def hadamard(x: Array) -> Array:
    """Return x (..., size) with each run of a power of two times Hadamard's matrix of 1 and -1."""
    size = x.shape[-1] & -x.shape[-1]
    matrix = np.ones((1, 1))
    while len(matrix) < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return (x.reshape(*x.shape[:-1], -1, size) @ matrix).reshape(x.shape)


def hadamard_factors(size: int) -> tuple[float, float]:
    """Return two powers of two, for what is stored and for the other side, that undo H H."""
    log = (size & -size).bit_length() - 1
    return 2.0 ** -(log // 2), 2.0 ** -(log - log // 2)


def _rope(x: Array, rotation: Rotation) -> Array:
    pairs = rotation.table.shape[2]
    cos, sin = rotation.table[:, None, 0], rotation.table[:, None, 1]
    index = np.arange(pairs)
    first, second = (2 * index, 2 * index + 1) if rotation.interleaved else (index, index + pairs)
    out = x.copy()
    out[..., first] = x[..., first] * cos - x[..., second] * sin
    out[..., second] = x[..., second] * cos + x[..., first] * sin
    return out


def kv_codes(values: Floats) -> Coded:
    """Return keys or values (..., size) as int8 pages hold them, bit for bit.

    One scale of largest / 127 per vector, rounded to float16, and codes of what is then divided by
    it, half to even.
    """
    within = np.clip(values, np.float32(-65504), np.float32(65504))
    scales = (np.abs(within).max(axis=-1) / np.float32(127)).astype(np.float16)
    wide = scales.astype(np.float32)
    inverse = np.divide(np.float32(1), wide, out=np.zeros_like(wide), where=wide > 0)
    codes = np.rint(np.clip(within * inverse[..., None], -127, 127))
    return Coded(codes.astype(np.int8), scales)


def attend(
    qkv: Floats, heads: Heads, pages: Pages, spans: Sequence[Span], window: int, cap: float
) -> Array:
    """Return softmax(cap(q · K)) · V of every row, (R, heads * v_dim); int8 V is rotated back."""
    q = queries(qkv, heads, pages.format)
    size = len(whole(np.zeros(heads.v_dim))) if pages.format == "int8" else heads.v_dim
    out = np.empty((len(qkv), heads.num_heads, size))
    row = 0
    for span in spans:
        keys, vals = (part.astype(np.float64) for part in pages.of(span))
        for position in range(span.position, span.position + span.num_rows):
            seen = slice(max(0, position + 1 - window) if window else 0, position + 1)
            for head in range(heads.num_heads):
                group = head // (heads.num_heads // heads.num_kv_heads)
                scores = softcap(keys[seen, group] @ q[row, head], cap)
                weights = np.exp(scores - scores.max())
                out[row, head] = weights @ vals[seen, group] / weights.sum()
            row += 1
    if pages.format == "int8":
        out = rotated(out, 1)
    return out[..., : heads.v_dim].reshape(len(qkv), -1)
