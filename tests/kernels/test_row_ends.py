"""Rows that end within a block of 32: floats end there, codes go on with zeros."""

from collections.abc import Callable

import numpy as np
import pytest
from kernel_bounds import assert_same_bits, assert_within, product_bound

from kernel_ops import oracles, wrappers
from kernel_ops.arena import Activations, KernelArena, Matrix
from tonnage._native import Executor, InputError, load_staging_bytes
from tonnage.backends.cpu.layout.sizes import load_staging_bytes as planned_staging_bytes
from tonnage.core import block_format as bf
from tonnage.core.block_format import BY_NAME
from tonnage.core.mix import PLAIN_FORMATS

Team = Callable[[int], Executor]
TeamOf = Callable[[str, int], Executor]
COLS = (1, 15, 16, 31, 33, 100, 255, 257, 560, 700)
FLOATS = {"F32": (bf.F32, "<f4"), "F16": (bf.F16, "<f2")}


def floats(values: np.ndarray, kind: str = "F32") -> Matrix:
    """Return a matrix of floats."""
    fmt, dtype = FLOATS[kind]
    return Matrix(fmt, values.astype(dtype).tobytes(), values.shape)


def filled(x: np.ndarray) -> np.ndarray:
    """Return rows with zeros up to a multiple of 32."""
    return np.pad(x, ((0, 0), (0, -x.shape[1] % 32)))


@pytest.mark.parametrize("kind", FLOATS)
def test_floats_end_with_their_row(team: Team, kind: str, rng: np.random.Generator) -> None:
    for cols in COLS:
        for num_rows in (1, 7, 33):
            matrix = floats(rng.standard_normal((45, cols)), kind)
            x = rng.standard_normal((num_rows, cols)).astype(np.float32)
            y = wrappers.matmul(team(2), [matrix], x)
            assert_within(y, oracles.matmul(matrix, x), product_bound(matrix, x))


def test_codes_are_those_of_rows_with_zeros(
    isas: list[str], team_of: TeamOf, rng: np.random.Generator
) -> None:
    for cols in COLS:
        x = rng.standard_normal((9, cols)).astype(np.float32)
        expected = wrappers.quantize(team_of(isas[0], 1), filled(x))
        for isa in isas:
            for threads in (1, 3):
                acts = wrappers.quantize(team_of(isa, threads), x)
                assert_same_bits(acts.scales, expected.scales, isa)
                assert (acts.codes == expected.codes).all()


def product_of_codes(
    team: Executor, matrix: Matrix, fmt: bf.BlockFormat, x: Activations
) -> np.ndarray:
    """Return x times the matrix as `fmt`, whose rows and activations have the matrix's columns."""
    rows, cols = matrix.shape
    arena = KernelArena(team, max_rows=len(x.codes))
    out = arena.space(4 * len(x.codes) * rows)
    arena.program.matmul(
        parts=[(arena.matrix(matrix, fmt), -1, 0)], input=arena.acts(x, cols), out=out,
        out_stride=rows, out_rows=len(x.codes), cap=0.0, accumulate=False, gather=False,
    )  # fmt: skip
    arena.run(len(x.codes))
    return arena.floats(out, (len(x.codes), rows))


@pytest.mark.parametrize("name", PLAIN_FORMATS)
def test_quantizing_fills_the_last_block_with_zeros(
    isas: list[str], team_of: TeamOf, name: str, rng: np.random.Generator
) -> None:
    """The bits of products and of rows that are looked up are those of a file with the zeros."""
    fmt = BY_NAME[name]
    for cols in COLS:
        values = rng.standard_normal((45, cols))
        x = wrappers.quantize(team_of(isas[0], 1), rng.standard_normal((7, cols)).astype("f4"))
        team = team_of(isas[0], 2)
        expected = product_of_codes(team, floats(filled(values)), fmt, x)
        looked_up = wrappers.packed_rows(team, floats(filled(values)), fmt)[:, :cols]
        for isa in isas:
            team = team_of(isa, 2)
            assert_same_bits(product_of_codes(team, floats(values), fmt, x), expected, isa)
            held = wrappers.packed_rows(team, floats(values), fmt)
            assert_same_bits(held, np.ascontiguousarray(looked_up), isa)


@pytest.mark.parametrize("kind", ["F32", "Q8_0"])
def test_inner_elements_of_any_number(
    isas: list[str], team_of: TeamOf, kind: str, rng: np.random.Generator
) -> None:
    """Those of a larger number do not depend on how many follow."""
    all_values = rng.standard_normal((2, 160, 64)).astype(np.float32)
    biases = rng.standard_normal((2, 160)).astype(np.float32)
    x = rng.standard_normal((7, 64)).astype(np.float32)
    operand = x if kind == "F32" else oracles.quantize(x)
    if kind == "Q8_0":
        all_values = np.rint(all_values * 20)

    def run(team: Executor, hidden: int) -> tuple[np.ndarray, Activations]:
        pair = [as_kind(values[:hidden], kind) for values in all_values]
        own = tuple(np.pad(bias[:hidden], (0, -hidden % 32)) for bias in biases)
        return wrappers.gated(team, *pair, operand, "silu", own)

    whole, _ = run(team_of(isas[0], 1), 160)
    for hidden in (1, 31, 33, 100, 144):
        for isa in isas:
            y, acts = run(team_of(isa, 2), hidden)
            assert_same_bits(y, np.ascontiguousarray(whole[:, :hidden]), isa)
            coded = wrappers.quantize(team_of(isa, 1), y)
            assert_same_bits(acts.scales, coded.scales, isa)
            assert (acts.codes == coded.codes).all()


def as_kind(values: np.ndarray, kind: str) -> Matrix:
    """Return floats, or whole numbers as Q8_0 with scales of 1."""
    if kind == "F32":
        return floats(values)
    blocks = np.zeros((values.size // 32, 34), np.uint8)
    blocks[:, :2] = np.float16(1).reshape(1).view(np.uint8)
    blocks[:, 2:] = values.reshape(-1, 32).astype(np.int8).view(np.uint8)
    return Matrix(bf.Q8_0, blocks.tobytes(), values.shape)


@pytest.mark.parametrize("source", [bf.F32, bf.F16, bf.F64, bf.F8_E4M3], ids=lambda f: f.name)
def test_the_plan_knows_what_loading_holds(source: bf.BlockFormat) -> None:
    for target in (source, *(BY_NAME[name] for name in PLAIN_FORMATS)):
        for cols in (1, 560, 1433):
            held = load_staging_bytes(source.ggml_type, target.ggml_type, cols)
            assert held == planned_staging_bytes(source, target, cols)


def test_larger_blocks_are_not_filled(team: Team, rng: np.random.Generator) -> None:
    with pytest.raises(InputError, match="no whole blocks of 256"):
        wrappers.packed_rows(team(1), floats(rng.standard_normal((3, 560))), bf.Q4_K)
    codes = Matrix(bf.Q8_0, bytes(3 * 2 * 34), (3, 33))
    with pytest.raises(InputError, match="cannot be converted"):
        wrappers.packed_rows(team(1), codes, bf.Q4_1)
