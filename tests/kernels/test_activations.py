"""Quantized activations, and the gated MLP with its activation functions."""

from collections.abc import Callable

import numpy as np
import pytest
from kernel_bounds import (
    FORMATS,
    GROWTH,
    MARK_FORMATS,
    TINY,
    U,
    assert_same_bits,
    assert_within,
    columns_of,
    product_bound,
    random_input,
    random_matrix,
    rows_of,
)

from kernel_ops import oracles, wrappers
from kernel_ops.arena import Activations, Matrix
from tonnage._native import Executor
from tonnage.core import block_format as bf
from tonnage.core.block_format import BlockFormat

Team = Callable[[int], Executor]
TeamOf = Callable[[str, int], Executor]
LARGEST = float(np.finfo(np.float32).max)
# Up to it a block counts as zeros, far from where 127 / largest is no float32.
NOTHING = float(np.float32(1e-30))


def wide_range(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Return values of both signs whose blocks have any magnitude."""
    low, high = np.log(NOTHING) - 9, np.log(LARGEST / 8)
    scale = np.exp(rng.uniform(low, high, (shape[0], shape[1] // 32)))
    x = rng.standard_normal(shape).clip(-7, 7) * np.repeat(scale, 32, axis=1)
    return x.astype(np.float32)


def assert_codes_fit(acts: Activations, x: np.ndarray) -> None:
    """Assert that each value is within half a step of its code's, but for float32 roundings."""
    blocks = x.reshape(*acts.scales.shape, 32).astype(np.float64)
    scales = acts.scales.astype(np.float64)
    # x * (127 / largest) has two roundings, the scale one; each is relative to at most 127 steps.
    bound = scales * (0.5 + 127 * 3 * U * GROWTH) + TINY * U
    error = np.abs(blocks - acts.values().reshape(blocks.shape)).max(axis=2)
    largest = np.abs(blocks).max(axis=2)
    nothing = largest <= NOTHING
    assert (error <= np.where(nothing, largest, bound)).all()
    assert_within(acts.scales, largest / 127, U * largest / 127 + TINY * U)
    codes = np.abs(acts.codes.astype(int)).reshape(blocks.shape).max(axis=2)
    assert (codes == np.where(nothing, 0, 127)).all()


def test_codes_are_within_half_a_step(team: Team, rng: np.random.Generator) -> None:
    for num_rows, cols in ((1, 32), (3, 96), (9, 1056), (33, 288)):
        x = wide_range((num_rows, cols), rng)
        assert_codes_fit(wrappers.quantize(team(1 + num_rows % 3), x), x)


def test_zeros_quantize_to_zeros(team: Team) -> None:
    x = np.zeros((3, 64), np.float32)
    x[1, 32:] = -0.0
    x[2, 40] = -3.0
    acts = wrappers.quantize(team(1), x)
    assert (acts.scales == [[0, 0], [0, 0], [0, np.float32(3) / np.float32(127)]]).all()
    assert (np.flatnonzero(acts.codes) == [2 * 64 + 40]).all()
    assert acts.codes[2, 40] == -127


@pytest.mark.parametrize("largest", [NOTHING, NOTHING * GROWTH, LARGEST])
def test_extreme_magnitudes_quantize(team: Team, largest: float) -> None:
    x = (largest * np.linspace(-1, 1, 32)).astype(np.float32)[None]
    assert_codes_fit(wrappers.quantize(team(1), x), x)


@pytest.mark.parametrize("largest", [1e-37, 1e-40, 1.5e-45])
def test_values_without_an_inverse_scale_stay_that_small(team: Team, largest: float) -> None:
    x = np.zeros((1, 64), np.float32)
    x[0, :32] = (largest * np.linspace(-1, 1, 32)).astype(np.float32)
    x[0, 5] = 0
    acts = wrappers.quantize(team(1), x)
    error = np.abs(acts.values() - x).max()
    assert error <= largest


def test_quantized_bits_agree_everywhere(
    isas: list[str], team_of: TeamOf, rng: np.random.Generator
) -> None:
    x = wide_range((33, 544), rng)
    expected = wrappers.quantize(team_of(isas[0], 1), x)
    for isa in isas:
        for threads in (1, 2, 3):
            acts = wrappers.quantize(team_of(isa, threads), x)
            assert_same_bits(acts.scales, expected.scales, f"scales, {isa}")
            assert (acts.codes == expected.codes).all()


def activate(team: Executor, values: np.ndarray, activation: str) -> np.ndarray:
    """Return the native activation of `values` (a multiple of 32 of them), through the gated op."""
    x = np.zeros((values.size // 32, 64), np.float32)
    x[:, :32] = values.reshape(-1, 32)
    x[:, 32] = 1
    pick, one = np.eye(32, 64, dtype=np.float32), np.eye(1, 64, 32, dtype=np.float32)
    gate = Matrix(bf.F32, pick.tobytes(), (32, 64))
    up = Matrix(bf.F32, np.repeat(one, 32, axis=0).tobytes(), (32, 64))
    steps = [x[i : i + 512] for i in range(0, len(x), 512)]
    pieces = [wrappers.gated(team, gate, up, step, activation)[0] for step in steps]
    return np.concatenate(pieces).reshape(values.shape)


def activation_bound(x: np.ndarray, y: np.ndarray, activation: str) -> np.ndarray:
    """Return how far a native activation y of x may lie from the exact one.

    exp: the reduced argument is off by 0.35 u, the polynomial by 2.7 u, Horner's rule adds 1.5 u,
    together under 5 u, relative. silu adds a sum and a quotient; where the exponential saturates
    at e^88, x e^-87 bounds what is lost. tanh = 1 - 2 / (e^2x + 1) is within 2.5 u + 4 u + u
    of the exact one, absolute. GELU's inner argument has 6 roundings, and z sech^2 z < 0.45.
    erf itself is within 1.5e-7 of its formula, and its division, polynomial and exponential are
    within 8 u; half of both counts.
    """
    if activation == "gelu":
        return GROWTH * np.abs(x) * (0.75e-7 + 4 * U) + 2 * U * np.abs(y) + TINY
    if activation == "silu":
        return GROWTH * 7 * U * np.abs(y) + np.abs(x) * np.exp(-87) + TINY
    return GROWTH * U * (7 * np.abs(x) + 2 * np.abs(y)) + TINY


def activation_inputs(rng: np.random.Generator) -> np.ndarray:
    """Return every magnitude, and densely the range in which the functions bend."""
    dense = np.linspace(-100, 100, 32 * 600)
    wide = np.exp(rng.uniform(np.log(1e-38), np.log(1e12), 32 * 100))
    special = np.array([0.0, 1e-45, LARGEST, 88.0, 87.3, 44.0, 43.65, 40.0])
    special = np.concatenate([special, -special, special, -special])
    return np.concatenate([dense, wide, -wide, special]).astype(np.float32)


@pytest.mark.parametrize("activation", ["silu", "gelu_tanh", "gelu"])
def test_activation_functions(team: Team, activation: str, rng: np.random.Generator) -> None:
    x = activation_inputs(rng)
    y = activate(team(2), x, activation)
    with np.errstate(over="ignore"):
        exact = oracles.activate(x, activation)
    assert_within(y, exact, activation_bound(x.astype(np.float64), exact, activation))


@pytest.mark.parametrize("activation", ["silu", "gelu_tanh", "gelu"])
def test_activation_bits_agree_on_all_instruction_sets(
    isas: list[str], team_of: TeamOf, activation: str, rng: np.random.Generator
) -> None:
    x = activation_inputs(rng)
    expected = activate(team_of(isas[0], 1), x, activation)
    for isa in isas[1:]:
        assert_same_bits(activate(team_of(isa, 1), x, activation), expected, isa)


@pytest.mark.parametrize("fmt", FORMATS, ids=MARK_FORMATS)
def test_gated_equals_oracle(team: Team, fmt: BlockFormat, rng: np.random.Generator) -> None:
    cols = columns_of(fmt)[1]
    gate, up = (random_matrix(fmt, 96, cols, rng) for _ in range(2))
    for num_rows, activation in ((1, "silu"), (4, "gelu_tanh"), (9, "gelu"), (33, "gelu_tanh")):
        x = random_input(fmt, num_rows, cols, rng)
        y, acts = wrappers.gated(team(1 + num_rows % 3), gate, up, x, activation)
        g, other = oracles.matmul(gate, x), oracles.matmul(up, x)
        g_bound, other_bound = product_bound(gate, x), product_bound(up, x)
        act = oracles.activate(g, activation)
        # Both functions have slope at most 1.13.
        act_bound = 1.13 * g_bound + activation_bound(g, act, activation)
        bound = act_bound * (np.abs(other) + other_bound) + (np.abs(act) + act_bound) * other_bound
        assert_within(y, act * other, GROWTH * (bound + U * np.abs(act * other)) + TINY)
        assert_codes_fit(acts, y)


@pytest.mark.parametrize("activation", ["silu", "gelu"])
def test_biases_are_added_to_both_products(
    team: Team, activation: str, rng: np.random.Generator
) -> None:
    gate, up = (random_matrix(bf.F32, 96, 64, rng) for _ in range(2))
    x = random_input(bf.F32, 5, 64, rng)
    gate_bias, up_bias = rng.standard_normal((2, 96)).astype(np.float32)
    y, _ = wrappers.gated(team(2), gate, up, x, activation, (gate_bias, up_bias))
    g, other = oracles.matmul(gate, x) + gate_bias, oracles.matmul(up, x) + up_bias
    g_bound = product_bound(gate, x) + U * np.abs(g)
    other_bound = product_bound(up, x) + U * np.abs(other)
    act = oracles.activate(g, activation)
    act_bound = 1.13 * g_bound + activation_bound(g, act, activation)
    bound = act_bound * (np.abs(other) + other_bound) + (np.abs(act) + act_bound) * other_bound
    assert_within(y, act * other, GROWTH * (bound + U * np.abs(act * other)) + TINY)


@pytest.mark.parametrize("fmt", [bf.Q4_1, bf.Q5_K, bf.BF16], ids=lambda fmt: fmt.name)
def test_gated_bits_depend_on_nothing_but_the_operands(
    isas: list[str], team_of: TeamOf, fmt: BlockFormat, rng: np.random.Generator
) -> None:
    gate, up = (random_matrix(fmt, 96, 512, rng) for _ in range(2))
    x = random_input(fmt, 33, 512, rng)
    expected, acts = wrappers.gated(team_of(isas[0], 1), gate, up, x, "silu")
    for isa in isas:
        for num_rows, threads in ((1, 1), (3, 2), (5, 3), (9, 2), (33, 2)):
            rows = rng.permutation(33)[:num_rows]
            y, own = wrappers.gated(team_of(isa, threads), gate, up, rows_of(x, rows), "silu")
            assert_same_bits(y, expected[rows], f"{isa}, {num_rows} rows")
            assert (own.codes == acts.codes[rows]).all()
