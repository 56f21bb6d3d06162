"""What loading makes of a matrix: exact panels, and quantized ones that beat plain rounding."""

from collections.abc import Callable

import numpy as np
import pytest
from kernel_bounds import FORMATS, MARK_FORMATS, assert_same_bits, columns_of, random_matrix

from kernel_ops import wrappers
from kernel_ops.arena import Matrix
from support import eight_bits
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


def eight_bit_matrix(kind: str, shape: tuple[int, int], rng: np.random.Generator) -> Matrix:
    scales = eight_bits.scale_of(kind, shape, rng)
    flat = () if scales is None else tuple(map(float, scales.ravel()))
    codes = rng.choice(eight_bits.FINITE, shape)
    return Matrix(bf.F8_E4M3, codes.astype(np.uint8).tobytes(), shape, flat)


def values_of(matrix: Matrix, kind: str, rng: np.random.Generator) -> np.ndarray:
    codes = np.frombuffer(matrix.data, np.uint8).reshape(matrix.shape)
    scales = eight_bits.scale_of(kind, matrix.shape, rng)
    return eight_bits.VALUES[codes] * eight_bits.spread(scales, matrix.shape)


@pytest.mark.parametrize("kind", eight_bits.KINDS)
@pytest.mark.parametrize("shape", [(45, 96), (130, 256), (300, 416), (128, 32)])
def test_eight_bits_become_float16(team: Team, kind: str, shape: tuple[int, int]) -> None:
    matrix = eight_bit_matrix(kind, shape, np.random.default_rng(7))
    exact = values_of(matrix, kind, np.random.default_rng(7))
    held = wrappers.packed_rows(team(2), matrix)
    # Rounded once to float32, as a product of float32, and once to float16.
    assert (held == exact.astype(np.float32).astype(np.float16)).all()


def test_float16_costs_eight_bits_next_to_nothing(team: Team, rng: np.random.Generator) -> None:
    shape = (128, 256)
    normal = rng.standard_normal(shape)
    scale = float(np.float32(np.abs(normal).max() / 448))
    finite = np.sort(eight_bits.VALUES[eight_bits.FINITE])
    middles = (finite[1:] + finite[:-1]) / 2
    rounded = finite[np.searchsorted(middles, normal / scale)]
    code_of = {value: code for code, value in enumerate(eight_bits.VALUES) if code & 127 != 127}
    codes = np.array([code_of[value] for value in rounded.ravel()], np.uint8)
    held = wrappers.packed_rows(team(1), Matrix(bf.F8_E4M3, codes.tobytes(), shape, (scale,)))
    own = np.linalg.norm(rounded * scale - normal)
    assert np.linalg.norm(held - rounded * scale) < own / 50


@pytest.mark.parametrize("target", ["Q8_0", "Q6_K", "Q4_K"])
def test_eight_bits_in_fewer_bits_are_those_of_float16(
    team: Team, target: str, rng: np.random.Generator
) -> None:
    matrix = eight_bit_matrix("blocks", (200, 512), np.random.default_rng(3))
    halves = values_of(matrix, "blocks", np.random.default_rng(3)).astype(np.float32)
    plain = Matrix(bf.F16, halves.astype("<f2").tobytes(), matrix.shape)
    fmt = bf.BY_NAME[target]
    held = wrappers.packed_rows(team(2), matrix, fmt)
    assert_same_bits(held, wrappers.packed_rows(team(1), plain, fmt), target)


@pytest.mark.parametrize(("code", "scale"), [(127, 1.0), (255, 1.0), (126, 147.0), (1, np.inf)])
def test_eight_bits_that_are_no_weights_are_refused(team: Team, code: int, scale: float) -> None:
    codes = np.full((70, 64), 0x38, np.uint8)
    codes[66, 5] = code
    scales = np.ones(70)
    scales[66] = scale
    matrix = Matrix(bf.F8_E4M3, codes.tobytes(), (70, 64), tuple(scales))
    with pytest.raises(InputError, match=r"row 66 holds values that are not finite or exceed"):
        wrappers.packed_rows(team(2), matrix)


def test_scales_of_another_number_are_refused(team: Team) -> None:
    matrix = Matrix(bf.F8_E4M3, bytes(200 * 256), (200, 256), (1.0,) * 3)
    with pytest.raises(InputError, match="3 scales are neither one, nor one per row or 128 x 128"):
        wrappers.packed_rows(team(1), matrix)


def test_nvfp4_may_have_a_scale_of_the_whole(team: Team, rng: np.random.Generator) -> None:
    matrix = random_matrix(bf.NVFP4, 45, 192, rng)
    scale = np.float32(0.0123)
    exact = dequantize(bf.NVFP4, matrix.data, matrix.shape).astype(np.float64) * scale
    scaled = Matrix(matrix.format, matrix.data, matrix.shape, (float(scale),))
    held = wrappers.packed_rows(team(1), scaled)
    np.testing.assert_allclose(held, exact, rtol=2**-23)
    halved = wrappers.packed_rows(team(1), scaled, bf.Q8_0)
    np.testing.assert_allclose(halved, exact, atol=np.abs(exact).max() / 127)


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
