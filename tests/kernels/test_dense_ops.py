"""LayerNorm, plain MLPs, scaled products, learned positions, temperatures, parallel branches."""

from collections.abc import Callable

import numpy as np
import pytest
from kernel_bounds import (
    GROWTH,
    TINY,
    U,
    assert_same_bits,
    assert_within,
    product_bound,
    random_input,
    random_matrix,
)

from kernel_ops import attention, oracles, wrappers
from kernel_ops.arena import KernelArena, Span
from kernel_ops.attention import Heads, Rotation
from kernel_ops.wrappers import Epilogue
from tonnage._native import Executor
from tonnage.core import block_format as bf
from tonnage.core.block_format import BlockFormat

Team = Callable[[int], Executor]
TeamOf = Callable[[str, int], Executor]
EPS = float(np.float32(1e-5))
COLS = [32, 96, 576, 1, 15, 17, 2015]


def layer_norm_bound(x: np.ndarray, gain: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Return the bound of a LayerNorm whose exact result is `exact`.

    The mean is a sum of cols / 64 + 6 roundings, each of at most u of all magnitudes; it moves
    every difference alike, and the variance by its square. All else is as in an RMSNorm.
    """
    wide = x.astype(np.float64)
    roundings = x.shape[1] / 64 + 1 + 6
    off = (roundings + 2) * U * np.abs(wide).mean(axis=-1, keepdims=True)
    spread = wide - wide.mean(axis=-1, keepdims=True)
    size = np.sqrt((spread * spread).mean(axis=-1, keepdims=True) + EPS)
    shares = (roundings / 2 + 8) * U + (off / size) ** 2
    of_spread = np.abs(spread) * shares + off + U * np.abs(wide)
    return GROWTH * (of_spread / size * np.abs(gain) + U * np.abs(exact)) + TINY


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("cols", COLS)
def test_layer_norm(team: Team, cols: int, with_bias: bool, rng: np.random.Generator) -> None:
    for num_rows in (1, 2, 9, 33):
        x = (rng.standard_normal((num_rows, cols)) + rng.uniform(-3, 3)).astype(np.float32)
        gain, bias = rng.standard_normal((2, cols)).astype(np.float32)
        own = bias if with_bias else None
        out = wrappers.norm(team(1 + num_rows % 3), x, gain, EPS, centred=True, bias=own)
        exact = oracles.layernorm(x, gain, own, EPS)
        assert_within(out.values, exact, layer_norm_bound(x, gain, exact))
        assert_same_bits(out.x, x, "x")
        coded = wrappers.quantize(team(1), out.values)
        assert (out.acts.codes == coded.codes).all()


@pytest.mark.parametrize("with_bias", [False, True])
def test_layer_norm_bits_depend_on_nothing_but_the_row(
    isas: list[str], team_of: TeamOf, with_bias: bool, rng: np.random.Generator
) -> None:
    x = rng.standard_normal((9, 97)).astype(np.float32)
    gain, bias = rng.standard_normal((2, 97)).astype(np.float32)
    own = bias if with_bias else None
    expected = wrappers.norm(team_of(isas[0], 1), x, gain, EPS, centred=True, bias=own).values
    sums = np.zeros((1, 97))
    for isa in isas:
        for rows in ([3], [0, 2, 8], list(range(9))):
            out = wrappers.norm(team_of(isa, 2), x[rows], gain, EPS, centred=True, bias=own)
            assert_same_bits(out.values, expected[rows], isa)
        pooled = wrappers.pool_hidden(
            team_of(isa, 3), x, gain, EPS, [(0, 9, 0, True)], sums, centred=True, bias=own
        )
        total = np.zeros(97)
        for row in expected:
            total += row
        assert (pooled[0] == total).all()


@pytest.mark.parametrize("rows", [32, 45])
@pytest.mark.parametrize("cap", [0.0, 30.0])
@pytest.mark.parametrize("fmt", [bf.Q4_1, bf.BF16], ids=lambda fmt: fmt.name)
def test_scaled_products(
    isas: list[str],
    team_of: TeamOf,
    fmt: BlockFormat,
    cap: float,
    rows: int,
    rng: np.random.Generator,
) -> None:
    matrix, scale = random_matrix(fmt, rows, 256, rng), 0.21875
    x = random_input(fmt, 7, 256, rng)
    bias = rng.standard_normal(rows).astype(np.float32)
    residual = 10 * rng.standard_normal((7, rows)).astype(np.float32)
    for base in (None, residual):
        epilogue = Epilogue(bias, base, cap, scale)
        y = wrappers.matmul(team_of(isas[0], 2), [matrix], x, epilogue)
        for isa in isas[1:]:
            assert_same_bits(wrappers.matmul(team_of(isa, 1), [matrix], x, epilogue), y, isa)
        added = 0 if base is None else base
        biased = oracles.matmul(matrix, x) + bias
        exact = scale * biased + added
        before = scale * (product_bound(matrix, x) + U * np.abs(biased)) + 2 * U * np.abs(exact)
        bound = before + (10 * U * cap if cap else 0)
        assert_within(y, oracles.softcap(exact, cap), GROWTH * bound + TINY)


def test_a_scale_of_one_changes_no_bit(team: Team, rng: np.random.Generator) -> None:
    matrix, x = random_matrix(bf.Q8_0, 64, 96, rng), random_input(bf.Q8_0, 5, 96, rng)
    residual = rng.standard_normal((5, 64)).astype(np.float32)
    alone = wrappers.matmul(team(1), [matrix], x)
    y = wrappers.matmul(team(1), [matrix], x, Epilogue(residual=residual))
    assert_same_bits(y, alone + residual, "sum")


@pytest.mark.parametrize("activation", ["silu", "gelu_tanh", "gelu", "relu2"])
@pytest.mark.parametrize("with_bias", [False, True])
def test_a_plain_mlp_is_a_gated_one_whose_other_factor_is_one(
    isas: list[str], team_of: TeamOf, activation: str, with_bias: bool, rng: np.random.Generator
) -> None:
    matrix, x = random_matrix(bf.F32, 70, 64, rng), random_input(bf.F32, 5, 64, rng)
    bias = rng.standard_normal(70).astype(np.float32) if with_bias else np.zeros(70, np.float32)
    padded = np.pad(bias, (0, 26))
    nothing = random_matrix(bf.F32, 70, 64, rng)
    nothing = type(nothing)(bf.F32, bytes(len(nothing.data)), nothing.shape)
    ones = np.ones(96, np.float32)
    for isa in isas:
        team = team_of(isa, 2)
        expected, codes = wrappers.gated(team, matrix, nothing, x, activation, (padded, ones))
        own = (padded, None) if with_bias else None
        y, acts = wrappers.gated(team, matrix, None, x, activation, own)
        assert_same_bits(y, expected, isa)
        assert (acts.codes == codes.codes).all()


def test_squared_relu(team: Team, rng: np.random.Generator) -> None:
    matrix, x = random_matrix(bf.BF16, 96, 64, rng), random_input(bf.BF16, 9, 64, rng)
    y, _ = wrappers.gated(team(2), matrix, None, x, "relu2")
    product, off = oracles.matmul(matrix, x), product_bound(matrix, x)
    exact = oracles.activate(product, "relu2")
    assert_within(y, exact, GROWTH * (off * (2 * np.abs(product) + off) + U * exact) + TINY)
    assert (y == 0).any()


def test_squared_relu_keeps_what_is_no_number(team: Team, rng: np.random.Generator) -> None:
    arena = KernelArena(team(1), max_rows=1)
    out = arena.acts_space(32, codes=False, values=True)
    arena.program.gated(
        gate=arena.matrix(random_matrix(bf.F32, 32, 32, rng)), up=None, out=out,
        input=arena.acts(np.full((1, 32), np.nan, np.float32)), activation="relu2",
    )  # fmt: skip
    arena.run(1)
    assert np.isnan(arena.floats(out[1], (1, 32))).all()


@pytest.mark.parametrize("fmt", [bf.F32, bf.F16, bf.BF16, bf.Q8_0, bf.Q6_K], ids=lambda f: f.name)
def test_learned_positions(
    isas: list[str], team_of: TeamOf, fmt: BlockFormat, rng: np.random.Generator
) -> None:
    table, positions = random_matrix(fmt, 50, 256, rng), random_matrix(fmt, 9, 256, rng)
    tokens = rng.integers(0, 50, 9).tolist()
    alone = wrappers.embed(team_of(isas[0], 1), table, tokens, scale=2.0)
    own = wrappers.embed(team_of(isas[0], 1), positions, range(9))
    for isa in isas:
        x = wrappers.embed(team_of(isa, 2), table, tokens, scale=2.0, positions=positions)
        assert_same_bits(x, alone + own, isa)


def test_the_temperature_of_queries_grows_with_their_position(
    isas: list[str], team_of: TeamOf, rng: np.random.Generator
) -> None:
    heads, spans = Heads(4, 2, 32, 32), [Span([0], 30), Span([1], 3, 20)]
    qkv = rng.standard_normal((33, heads.qkv_cols)).astype(np.float32)
    table = attention.rope_table(team_of(isas[0], 1), np.full(8, 0.25, np.float32), spans)
    plain = Rotation(table, scale=0.25)
    warm = Rotation(table, scale=0.25, temperature=(0.125, 7))
    base, pages = attention.rope_kv_write(team_of(isas[0], 1), qkv, heads, plain, spans)
    factor = 1 + 0.125 * np.log(1 + oracles.positions(spans) // 7)
    for isa in isas:
        out, own = attention.rope_kv_write(team_of(isa, 2), qkv, heads, warm, spans)
        q, expected = heads.split(out)[0], heads.split(base)[0] * factor[:, None, None]
        assert_within(q, expected, 3 * U * np.abs(expected) + TINY)
        assert_same_bits(q[:7], heads.split(base)[0][:7], "before it grows")
        assert own.packed() == pages.packed()


@pytest.mark.parametrize("forms", [(True, False), (False, True), (True, True)])
def test_what_parallel_branches_read_moves_with_the_other_rows(
    team: Team, forms: tuple[bool, bool], rng: np.random.Generator
) -> None:
    """Behind the gather a product reads rows 1 and 4 at the front."""
    x = rng.standard_normal((6, 96)).astype(np.float32)
    fmt = bf.Q8_0 if forms[0] else bf.F32
    matrix = random_matrix(fmt, 33, 96, rng)
    arena = KernelArena(team(3), max_rows=6)
    acts = arena.acts_space(96, codes=forms[0], values=forms[1])
    out, spare = arena.space(4 * 6 * 33), arena.space(4 * 6 * 96)
    arena.program.quantize(x=arena.place(x), out=acts)
    arena.program.gather_last(x=spare, x_cols=96, qkv=spare, qkv_cols=96, kept=acts)
    arena.program.matmul(
        parts=[(arena.matrix(matrix), -1, 0)], input=acts, out=out, out_stride=33, out_rows=6,
        cap=0.0, accumulate=False, gather=False,
    )  # fmt: skip
    arena.run(6, logit_rows=[1, 4])
    source = wrappers.quantize(team(1), x[[1, 4]]) if forms[0] else x[[1, 4]]
    expected = wrappers.matmul(team(1), [matrix], source)
    assert_same_bits(arena.floats(out, (2, 33)), expected, "gathered")
