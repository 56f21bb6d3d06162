"""Products of every block format with their epilogues."""

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
from kernel_ops.arena import KernelArena
from kernel_ops.wrappers import Epilogue
from tonnage._native import Executor
from tonnage.core import block_format as bf
from tonnage.core.block_format import BlockFormat

Team = Callable[[int], Executor]
TeamOf = Callable[[str, int], Executor]
NUM_ROWS = (*range(1, 10), 16, 33)
WEIGHT_ROWS = (1, 31, 33, 70)


@pytest.mark.parametrize("fmt", FORMATS, ids=MARK_FORMATS)
def test_equals_oracle(team: Team, fmt: BlockFormat, rng: np.random.Generator) -> None:
    for cols in columns_of(fmt):
        for i, num_rows in enumerate(NUM_ROWS):
            matrix = random_matrix(fmt, WEIGHT_ROWS[i % len(WEIGHT_ROWS)], cols, rng)
            x = random_input(fmt, num_rows, cols, rng)
            y = wrappers.matmul(team(1 + i % 3), [matrix], x)
            assert_within(y, oracles.matmul(matrix, x), product_bound(matrix, x))


@pytest.mark.parametrize("fmt", FORMATS, ids=MARK_FORMATS)
def test_bits_depend_on_nothing_but_the_operands(
    isas: list[str], team_of: TeamOf, fmt: BlockFormat, rng: np.random.Generator
) -> None:
    cols = columns_of(fmt)[-1]
    matrix = random_matrix(fmt, 70, cols, rng)
    x = random_input(fmt, 33, cols, rng)
    expected = wrappers.matmul(team_of(isas[0], 1), [matrix], x)
    for isa in isas:
        for threads in (1, 2, 3):
            y = wrappers.matmul(team_of(isa, threads), [matrix], x)
            assert_same_bits(y, expected, f"{isa}, {threads} threads")
        for num_rows in NUM_ROWS:
            picked = rng.permutation(33)[:num_rows]
            y = wrappers.matmul(team_of(isa, 2), [matrix], rows_of(x, picked))
            assert_same_bits(y, expected[picked], f"{isa}, {num_rows} rows")


def test_a_full_step_of_512_rows(team: Team, rng: np.random.Generator) -> None:
    matrix = random_matrix(bf.Q4_K, 45, 256, rng)
    x = random_input(bf.Q4_K, 512, 256, rng)
    y = wrappers.matmul(team(2), [matrix], x)
    assert_within(y, oracles.matmul(matrix, x), product_bound(matrix, x))


@pytest.mark.parametrize("num_rows", [1, 5, 9])
@pytest.mark.parametrize("formats", [("Q4_1", "Q8_0", "Q6_K"), ("BF16", "F32", "F16")])
def test_three_matrices_side_by_side(
    team: Team, formats: tuple[str, ...], num_rows: int, rng: np.random.Generator
) -> None:
    chosen = [bf.BY_NAME[name] for name in formats]
    parts = [random_matrix(f, n, 256, rng) for f, n in zip(chosen, (70, 33, 64), strict=True)]
    x = random_input(chosen[0], num_rows, 256, rng)
    bias = rng.standard_normal(167).astype(np.float32)
    alone = np.concatenate([wrappers.matmul(team(1), [part], x) for part in parts], axis=1)
    for threads in (1, 2, 3):
        y = wrappers.matmul(team(threads), parts, x, Epilogue(bias=bias))
        assert_same_bits(y, alone + bias, f"{threads} threads")


@pytest.mark.parametrize("rows", [32, 45])
@pytest.mark.parametrize("cap", [0.0, 30.0])
@pytest.mark.parametrize("fmt", [bf.Q4_1, bf.Q6_K, bf.BF16], ids=lambda fmt: fmt.name)
def test_epilogue(
    team: Team, fmt: BlockFormat, cap: float, rows: int, rng: np.random.Generator
) -> None:
    matrix = random_matrix(fmt, rows, 256, rng)
    x = random_input(fmt, 7, 256, rng)
    bias = rng.standard_normal(rows).astype(np.float32)
    residual = 10 * rng.standard_normal((7, rows)).astype(np.float32)
    y = wrappers.matmul(team(2), [matrix], x, Epilogue(bias, residual, cap))
    exact = oracles.matmul(matrix, x) + bias + residual
    before = product_bound(matrix, x) + 2 * U * (np.abs(exact) + np.abs(residual) + np.abs(bias))
    # tanh has slope at most 1 and is within 8 u; its argument adds 0.9 u, the product with cap 1 u.
    bound = before + (10 * U * cap if cap else 0)
    assert_within(y, oracles.softcap(exact, cap), GROWTH * bound + TINY)


def test_gather_takes_the_first_rows_of_its_input(team: Team, rng: np.random.Generator) -> None:
    matrix = random_matrix(bf.Q8_0, 45, 64, rng)
    x = random_input(bf.Q8_0, 6, 64, rng)
    arena = KernelArena(team(2), max_rows=6)
    out = arena.space(4 * 2 * 45)
    arena.program.matmul(
        parts=[(arena.matrix(matrix), -1, 0)], input=arena.acts(x), out=out, out_stride=45,
        out_rows=2, cap=0.0, accumulate=False, gather=True,
    )  # fmt: skip
    arena.run(6, logit_rows=[1, 4])
    expected = wrappers.matmul(team(1), [matrix], rows_of(x, [0, 1]))
    assert_same_bits(arena.floats(out, (2, 45)), expected, "gather")
