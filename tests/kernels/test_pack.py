"""What loading makes of a matrix: exact panels, and quantized ones that beat plain rounding."""

from collections.abc import Callable

import numpy as np
import pytest
from kernel_bounds import FORMATS, MARK_FORMATS, assert_same_bits, columns_of, random_matrix

from kernel_ops import wrappers
from kernel_ops.arena import Matrix
from tonnage._native import Executor, InputError
from tonnage.core import block_format as bf
from tonnage.core.block_format import BlockFormat
from tonnage.formats.codec import dequantize, quantize

Team = Callable[[int], Executor]


@pytest.mark.parametrize("fmt", FORMATS, ids=MARK_FORMATS)
def test_panels_hold_exactly_the_checkpoint(
    team: Team, fmt: BlockFormat, rng: np.random.Generator
) -> None:
    for rows in (1, 16, 17, 32, 45, 64):
        cols = columns_of(fmt)[rows % 3]
        matrix = random_matrix(fmt, rows, cols, rng)
        held = wrappers.packed_rows(team(1 + rows % 3), matrix)
        # Adding 0 makes -0 and 0 alike: 0 - 0 and 0 * -0 differ in nothing but that sign.
        exact = dequantize(fmt, matrix.data, (rows, cols)) + np.float32(0)
        assert_same_bits(held + np.float32(0), exact, f"{rows} x {cols}")


def test_embedding_is_scaled(team: Team, rng: np.random.Generator) -> None:
    matrix = random_matrix(bf.Q6_K, 45, 256, rng)
    tokens = [44, 0, 31, 32, 44]
    scale = float(np.float32(np.sqrt(640)))
    x = wrappers.embed(team(2), matrix, tokens, scale=scale)
    exact = dequantize(bf.Q6_K, matrix.data, matrix.shape)[tokens] * np.float32(scale)
    assert (x == exact).all()


EXTREME_EXPONENTS = [0, 1, 2, 127, 253, 254, 255]


@pytest.mark.parametrize("exponent", EXTREME_EXPONENTS)
def test_every_exponent_of_mxfp4(team: Team, exponent: int) -> None:
    block = bytes([exponent]) + bytes(i | (15 - i) << 4 for i in range(16))
    held = wrappers.packed_rows(team(1), Matrix(bf.MXFP4, block, (1, 32)))
    np.testing.assert_array_equal(held, dequantize(bf.MXFP4, block, (1, 32)))


def test_every_scale_of_nvfp4(team: Team) -> None:
    codes = bytes(range(16)) + bytes(16 * value + 15 - value for value in range(16))
    data = b"".join(bytes([e, 255 - e, e, 7]) + codes for e in range(256))
    held = wrappers.packed_rows(team(1), Matrix(bf.NVFP4, data, (256, 64)))
    exact = dequantize(bf.NVFP4, data, (256, 64)) + np.float32(0)
    assert_same_bits(held + np.float32(0), exact, "scales")


# Formats whose first float16 is a factor of all their values.
WITHOUT_OFFSETS = [
    bf.Q4_0, bf.Q5_0, bf.Q8_0, bf.Q6_K, bf.Q3_K, bf.IQ4_XS, bf.IQ1_S, bf.IQ2_XXS, bf.IQ2_XS,
    bf.IQ2_S, bf.IQ3_XXS, bf.IQ3_S, bf.TQ1_0, bf.TQ2_0, bf.Q1_0, bf.Q2_0,
]  # fmt: skip


@pytest.mark.parametrize("bits", [0x0001, 0x03FF, 0x0400, 0x7BFF, 0x8001, 0xFBFF])
@pytest.mark.parametrize("fmt", WITHOUT_OFFSETS, ids=str)
def test_extreme_scales(team: Team, fmt: BlockFormat, bits: int, rng: np.random.Generator) -> None:
    offset = {"Q6_K": 208, "Q3_K": 108, "TQ1_0": 52, "TQ2_0": 64}.get(fmt.name, 0)
    block = np.frombuffer(random_matrix(fmt, 1, fmt.block_elems, rng).data, np.uint8).copy()
    block[offset : offset + 2] = bits & 255, bits >> 8
    matrix = Matrix(fmt, block.tobytes(), (1, fmt.block_elems))
    held = wrappers.packed_rows(team(1), matrix)
    assert (held == dequantize(fmt, matrix.data, matrix.shape)).all()


def hard_rows(rng: np.random.Generator) -> np.ndarray:
    """Return blocks of many distributions and magnitudes, as rows of 64."""
    normal = rng.standard_normal((200, 64))
    heavy = rng.standard_t(2, (200, 64))
    shifted = 5 + 0.1 * rng.standard_normal((100, 64))
    spike = 0.01 * rng.standard_normal((50, 64))
    spike[:, ::32] = 3
    few = rng.choice([-1.0, 0.0, 0.5], (50, 64))
    flat = np.repeat(rng.standard_normal((20, 2)), 32, axis=1)
    rows = np.concatenate([normal, heavy, shifted, spike, few, flat, np.zeros((1, 64))])
    scale = np.exp(rng.uniform(np.log(1e-7), np.log(100), (len(rows), 1)))
    scale[::2] = 0.02
    return (rows * scale).astype(np.float32)


def stored(kind: BlockFormat, values: np.ndarray) -> tuple[Matrix, np.ndarray]:
    """Return values as a checkpoint of `kind` holds them, and what it then says."""
    matrix = Matrix(kind, quantize(kind, values), values.shape)
    return matrix, dequantize(kind, matrix.data, values.shape)


@pytest.mark.parametrize("target", [bf.Q8_0, bf.Q4_1], ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("kind", [bf.F32, bf.F16, bf.BF16], ids=lambda fmt: fmt.name)
def test_quantizing_while_loading_beats_rounding(
    team: Team, kind: BlockFormat, target: BlockFormat, rng: np.random.Generator
) -> None:
    matrix, values = stored(kind, hard_rows(rng))
    held = wrappers.packed_rows(team(2), matrix, target).astype(np.float64)
    rounded = dequantize(target, quantize(target, values), values.shape)
    ours, plain = (
        ((got - values.astype(np.float64)) ** 2).reshape(-1, 32).sum(axis=1)
        for got in (held, rounded)
    )
    # A code at the very middle of two may fall either way after float32 roundings.
    slack = np.finfo(np.float32).eps * (values.astype(np.float64) ** 2).reshape(-1, 32).sum(axis=1)
    worse = ours > plain + slack
    assert not worse.any(), f"{int(worse.sum())} of {worse.size} blocks are worse than rounding"


def test_four_bits_are_better_than_rounding_on_the_whole(
    team: Team, rng: np.random.Generator
) -> None:
    values = rng.standard_normal((64, 512)).astype(np.float32)
    matrix = Matrix(bf.F32, values.tobytes(), values.shape)
    ours = wrappers.packed_rows(team(2), matrix, bf.Q4_1) - values
    plain = dequantize(bf.Q4_1, quantize(bf.Q4_1, values), values.shape) - values
    assert (ours**2).sum() < 0.92 * (plain**2).sum()


@pytest.mark.parametrize("target", [bf.Q8_0, bf.Q4_1], ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
def test_what_has_no_quantized_form_is_refused(team: Team, bad: float, target: BlockFormat) -> None:
    values = np.ones((40, 64), np.float32)
    values[37, 33] = bad
    with pytest.raises(InputError, match=rf"row 37 .*{target.name}"):
        wrappers.packed_rows(team(2), Matrix(bf.F32, values.tobytes(), (40, 64)), target)


def test_a_file_that_ends_early_is_an_error(team: Team) -> None:
    with pytest.raises(RuntimeError, match="ended"):
        wrappers.packed_rows(team(2), Matrix(bf.Q8_0, b"\0" * (34 * 70 - 1), (70, 32)))


def test_other_conversions_are_refused(team: Team, rng: np.random.Generator) -> None:
    for source, target in ((bf.Q8_0, bf.F16), (bf.F32, bf.BF16), (bf.Q4_K, bf.MXFP4)):
        with pytest.raises(InputError, match="cannot be converted"):
            wrappers.packed_rows(team(1), random_matrix(source, 1, 256, rng), target)
