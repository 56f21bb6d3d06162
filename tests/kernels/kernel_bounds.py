"""Random operands, and how far float32 kernels may lie from their float64 oracles.

u is the unit roundoff of float32: a rounded result is the exact one times 1 + d, |d| <= u. Bounds
count the roundings on the longest path of a result and multiply by the magnitudes that met them
(Higham 2002, chapter 3); second-order terms are covered by GROWTH.
"""

from collections.abc import Sequence

import numpy as np

from kernel_ops import oracles
from kernel_ops.arena import Activations, Matrix
from tonnage.core import block_format as bf
from tonnage.core.block_format import BlockFormat
from tonnage.formats.codec import dequantize, random_blocks

U = float(np.finfo(np.float32).eps) / 2
TINY = float(np.finfo(np.float32).smallest_normal)
GROWTH = 1.01

# Where the codes of a block begin and end; with codes of 0 an affine format decodes to its offset.
CODE_BYTES = {
    "Q4_1": slice(4, 20),
    "Q5_1": slice(4, 24),
    "Q2_K": slice(16, 80),
    "Q4_K": slice(16, 144),
    "Q5_K": slice(16, 176),
}

FORMATS = bf.ALL_FORMATS
QUANTIZED = tuple(fmt for fmt in FORMATS if fmt.block_elems > 1)
MARK_FORMATS = [fmt.name for fmt in FORMATS]


def random_matrix(fmt: BlockFormat, rows: int, cols: int, rng: np.random.Generator) -> Matrix:
    """Return a matrix of random codes and sane scales."""
    return Matrix(fmt, random_blocks(fmt, (rows, cols), rng), (rows, cols))


def columns_of(fmt: BlockFormat) -> tuple[int, ...]:
    """Return widths that start, fill and pass the runs of blocks that kernels unpack."""
    if fmt.block_elems == 256:
        return 256, 512, 768, 2304, 1280
    if fmt.block_elems > 32:
        return tuple(fmt.block_elems * blocks for blocks in (1, 2, 5, 8, 11, 17))
    return 32, 64, 288, 512, 640, 1056


def random_input(
    fmt: BlockFormat, rows: int, cols: int, rng: np.random.Generator
) -> Activations | np.ndarray:
    """Return activations in the form that a weight of `fmt` reads."""
    x = rng.standard_normal((rows, cols)).astype(np.float32)
    x *= np.exp(rng.uniform(-3, 3, (rows, 1))).astype(np.float32)
    return x if fmt.block_elems == 1 else oracles.quantize(x)


def rows_of(x: Activations | np.ndarray, rows: Sequence[int]) -> Activations | np.ndarray:
    """Return some rows of activations."""
    picked = list(rows)
    if isinstance(x, Activations):
        return Activations(x.codes[picked], x.scales[picked])
    return x[picked]


def _offsets(matrix: Matrix) -> np.ndarray:
    codes = CODE_BYTES.get(matrix.format.name)
    if codes is None:
        return np.zeros(matrix.shape)
    blocks = np.frombuffer(matrix.data, np.uint8).reshape(-1, matrix.format.block_bytes).copy()
    blocks[:, codes] = 0
    return dequantize(matrix.format, blocks.tobytes(), matrix.shape).astype(np.float64)


def product_bound(matrix: Matrix, x: Activations | np.ndarray) -> np.ndarray:
    """Return how far each element of x · weightᵀ may lie from the oracle's.

    A running error bound: each rounding adds at most u of its result. Floats: one fused
    multiply-add per column, so u of every partial sum. Quantized: the integer sums of 16 columns
    are exact; scale, its product and its addition round three times, the same for an offset, and
    one more fused multiply-add takes each 32 columns into the sum. The oracle's own weights, of
    code times scale plus offset, were rounded once by the codec.
    """
    v, w = oracles.values(x), oracles.weight(matrix)
    if matrix.format.block_elems == 1:
        partial = np.abs(np.cumsum(_pieces(v, w, 1), axis=0)).sum(axis=0)
        return GROWTH * U * partial + TINY
    off = _offsets(matrix)
    halves, offsets = _pieces(v, w - off, 16), _pieces(v, off, 16)
    blocks = (halves + offsets).reshape(-1, 2, len(v), len(w)).sum(axis=1)
    partial = np.abs(np.cumsum(blocks, axis=0)).sum(axis=0)
    local = 3 * (np.abs(halves) + np.abs(offsets)).sum(axis=0)
    return GROWTH * U * (partial + local + np.abs(v) @ np.abs(w).T) + TINY


def _pieces(v: np.ndarray, w: np.ndarray, cols: int) -> np.ndarray:
    """Return the products (pieces, rows of v, rows of w) of every run of `cols` columns."""
    left = v.reshape(len(v), -1, cols).swapaxes(0, 1)
    return left @ w.reshape(len(w), -1, cols).transpose(1, 2, 0)


def hadamard_bound(bound: np.ndarray, before: np.ndarray, factor: float) -> np.ndarray:
    """Return the bound of what is rotated by a Hadamard matrix, times `factor`.

    before: what goes in, exact, and `bound` how far it is off. Sixteen sums and one level for each
    doubling round.
    """
    size = before.shape[-1] & -before.shape[-1]
    total = bound + (16 + np.log2(size)) * U * np.abs(before)
    sums = total.reshape(*before.shape[:-1], -1, size).sum(axis=-1)
    return factor * np.repeat(sums, size, axis=-1)


def assert_within(actual: np.ndarray, exact: np.ndarray, bound: np.ndarray | float) -> None:
    """Assert |actual - exact| <= bound everywhere, and tell by how much it fails."""
    assert np.isfinite(actual).all()
    error = np.abs(actual - exact)
    share = np.max(error / np.maximum(bound, np.finfo(np.float64).tiny))
    assert (error <= bound).all(), f"the error is {share:.3g} times its bound"


def assert_same_bits(actual: np.ndarray, expected: np.ndarray, what: str) -> None:
    """Assert that both hold the same bytes."""
    differ = actual.view(np.uint32) != expected.view(np.uint32)
    assert not differ.any(), f"{what}: {int(differ.sum())} of {differ.size} elements differ"


def scattered(num_positions: int, rng: np.random.Generator, first_free: int = 0) -> list[int]:
    """Return pages for that many positions in random order, from `first_free` on."""
    count = -(-num_positions // 64)
    return (first_free + rng.permutation(count)).tolist()
