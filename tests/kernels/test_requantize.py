"""Re-quantizing while loading: any source, every target, as exact as ggml's quantizers."""

from collections.abc import Callable

import numpy as np
import pytest
from gguf import GGMLQuantizationType, quants
from kernel_bounds import FORMATS, MARK_FORMATS, assert_same_bits, random_matrix

from kernel_ops import wrappers
from kernel_ops.arena import Matrix
from tonnage._native import Executor, InputError, load_staging_bytes
from tonnage.backends.cpu.layout.sizes import load_staging_bytes as planned_staging_bytes
from tonnage.core import block_format as bf
from tonnage.core.block_format import BY_NAME, BlockFormat
from tonnage.core.mix import TARGETS
from tonnage.formats.codec import dequantize

Team = Callable[[int], Executor]

# ggml's quantizers without an importance matrix on normal values: root mean square error over that
# of the values, `bench/requantize.py --ggml` (512 x 2048 values, llama.cpp of llama_cpp 0.3.16).
GGML_ERROR = {
    "Q6_K": 0.01777, "Q5_K": 0.03617, "Q4_K": 0.07144, "IQ4_XS": 0.07680, "Q3_K": 0.15108,
    "Q2_K": 0.29686, "IQ4_NL": 0.07621,
}  # fmt: skip
ALLOWED = 1.02


def as_matrix(values: np.ndarray) -> Matrix:
    return Matrix(bf.F32, values.astype(np.float32).tobytes(), values.shape)


def error(values: np.ndarray, held: np.ndarray) -> float:
    return float(np.linalg.norm(held.astype(np.float64) - values) / np.linalg.norm(values))


@pytest.mark.parametrize("name", GGML_ERROR)
def test_as_exact_as_ggml(team: Team, name: str, rng: np.random.Generator) -> None:
    values = rng.standard_normal((128, 1024))
    held = wrappers.packed_rows(team(2), as_matrix(values), BY_NAME[name])
    assert error(values, held) < ALLOWED * GGML_ERROR[name]


@pytest.mark.parametrize("name", ["Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0"])
def test_as_exact_as_the_reference_package(team: Team, name: str, rng: np.random.Generator) -> None:
    values = rng.standard_t(5, (64, 512)).astype(np.float32)
    kind = GGMLQuantizationType[name]
    theirs = quants.dequantize(quants.quantize(values, kind), kind)
    held = wrappers.packed_rows(team(2), as_matrix(values), BY_NAME[name])
    assert error(values, held) < ALLOWED * error(values, theirs)


@pytest.mark.parametrize("source", FORMATS, ids=MARK_FORMATS)
def test_every_source_is_decoded_exactly(
    team: Team, source: BlockFormat, rng: np.random.Generator
) -> None:
    """What a source decodes to, given as floats, becomes the same blocks."""
    for rows, cols in ((45, 512), (7, 256)):
        matrix = random_matrix(source, rows, cols, rng)
        values = dequantize(source, matrix.data, matrix.shape)
        for name in ("Q8_0", "Q4_K", "Q3_K"):
            if name != source.name:
                held = wrappers.packed_rows(team(2), matrix, BY_NAME[name])
                again = wrappers.packed_rows(team(1), as_matrix(values), BY_NAME[name])
                assert_same_bits(held + np.float32(0), again + np.float32(0), name)


def test_columns_that_end_inside_a_tile(team: Team, rng: np.random.Generator) -> None:
    for cols in (32, 288, 576, 896):
        values = rng.standard_normal((33, cols))
        for name in ("Q8_0", "Q5_1", "Q5_0", "Q4_1", "IQ4_NL"):
            held = wrappers.packed_rows(team(2), as_matrix(values), BY_NAME[name])
            assert error(values, held) < 0.09


@pytest.mark.parametrize("name", TARGETS)
def test_all_instruction_sets_agree(
    team_of: Callable[[str, int], Executor], isas: list[str], name: str, rng: np.random.Generator
) -> None:
    values = rng.standard_normal((40, 512)) * np.exp(rng.uniform(-18, 4, (40, 1)))
    held = [
        wrappers.packed_rows(team_of(isa, 1 + i % 2), as_matrix(values), BY_NAME[name])
        for i, isa in enumerate(isas)
    ]
    for isa, other in zip(isas, held, strict=True):
        assert_same_bits(other, held[0], isa)


@pytest.mark.parametrize("name", TARGETS)
def test_odd_values_lose_no_more_than_themselves(
    team: Team, name: str, rng: np.random.Generator
) -> None:
    """Zeros, constants, spikes, one sign, next to nothing: never further off than all zeros."""
    spike = np.zeros(256)
    spike[100] = -3
    few = rng.choice([-1.0, 0.0, 0.5], 256)
    rows = [np.zeros(256), np.ones(256), -np.ones(256), spike, few, 2 + 0.01 * few, few - 9,
            1e-20 * few, 1e-42 * few, 4000 * few]  # fmt: skip
    values = np.array(rows, np.float32)
    held = wrappers.packed_rows(team(1), as_matrix(values), BY_NAME[name]).astype(np.float64)
    missed = ((held - values) ** 2).sum(axis=1)
    size = (values.astype(np.float64) ** 2).sum(axis=1)
    assert np.isfinite(held).all()
    assert (missed <= size * (1 + np.finfo(np.float32).eps)).all(), missed / size
    assert not held[0].any()


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("bad", [np.nan, -np.inf, 3e38, -2.7e8])
def test_what_has_no_form_is_refused(team: Team, bad: float, name: str) -> None:
    values = np.ones((40, 256), np.float32)
    values[37, 33] = bad
    with pytest.raises(InputError, match=rf"row 37 .*{name}"):
        wrappers.packed_rows(team(2), as_matrix(values), BY_NAME[name])


@pytest.mark.parametrize("source", FORMATS, ids=MARK_FORMATS)
def test_the_plan_knows_what_loading_holds(source: BlockFormat) -> None:
    for target in (source, *(BY_NAME[name] for name in TARGETS)):
        held = load_staging_bytes(source.ggml_type, target.ggml_type, 1280)
        assert held == planned_staging_bytes(source, target, 1280)
