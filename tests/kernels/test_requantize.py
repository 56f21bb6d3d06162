"""Re-quantizing while loading: any source, every target, as exact as ggml's quantizers."""

from collections.abc import Callable

import numpy as np
import pytest
from gguf import GGMLQuantizationType, quants
from kernel_bounds import FORMATS, MARK_FORMATS, assert_same_bits, random_matrix

from kernel_ops import wrappers
from kernel_ops.arena import Matrix
from tonnage._native import Executor, InputError, load_staging_bytes, requantize
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


def importance_of(rng: np.random.Generator, cols: int) -> np.ndarray:
    """Return second moments as activations have them: a few columns far above the others."""
    return np.exp(rng.normal(0, 1.5, cols)).astype(np.float32)


def rewritten(
    team: Executor, values: np.ndarray, name: str, importance: np.ndarray | None = None
) -> np.ndarray:
    """Return what is left of float32 values that were written as blocks of a format."""
    weights = b"" if importance is None else importance.tobytes()
    data = requantize(
        team, source=bf.F32.ggml_type, target=BY_NAME[name].ggml_type, cols=values.shape[1],
        data=values.tobytes(), importance=weights,
    )  # fmt: skip
    return dequantize(BY_NAME[name], data, values.shape)


def weighted_error(values: np.ndarray, held: np.ndarray, importance: np.ndarray) -> float:
    return float((importance * (held.astype(np.float64) - values) ** 2).sum())


@pytest.mark.parametrize("name", [name for name in TARGETS if name != "Q8_0"])
def test_importance_lowers_the_error_that_it_weighs(
    team: Team, name: str, rng: np.random.Generator
) -> None:
    values = rng.standard_t(5, (64, 1024)).astype(np.float32)
    importance = importance_of(rng, 1024)
    even, weighted = (rewritten(team(2), values, name, w) for w in (None, importance))
    lower = weighted_error(values, weighted, importance)
    assert lower < 0.97 * weighted_error(values, even, importance)
    # What all columns count alike is lost as without importance, or less: the search is longer.
    alike = rewritten(team(1), values, name, np.full(1024, 0.25, np.float32))
    assert error(values, alike) < 1.001 * error(values, even)


@pytest.mark.parametrize("name", TARGETS)
def test_rows_are_rewritten_as_they_are_loaded(
    team: Team, name: str, rng: np.random.Generator
) -> None:
    values = rng.standard_normal((77, 512)).astype(np.float32)
    held = wrappers.packed_rows(team(1), as_matrix(values), BY_NAME[name])
    assert_same_bits(rewritten(team(2), values, name), held, name)


@pytest.mark.parametrize("name", TARGETS)
def test_all_instruction_sets_weigh_alike(
    team_of: Callable[[str, int], Executor], isas: list[str], name: str, rng: np.random.Generator
) -> None:
    values = rng.standard_normal((40, 512)).astype(np.float32)
    importance = importance_of(rng, 512)
    found = [
        rewritten(team_of(isa, 1 + i % 2), values, name, importance) for i, isa in enumerate(isas)
    ]
    for isa, other in zip(isas, found, strict=True):
        assert_same_bits(other, found[0], isa)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cols": 0}, "columns is 0"),
        ({"cols": 128}, "cannot go"),
        ({"source": bf.NVFP4.ggml_type}, "cannot go"),
        ({"target": bf.F16.ggml_type}, "cannot go"),
        ({"data": bytes(5)}, "no whole rows"),
        ({"importance": bytes(4)}, "1,?024 are needed"),
        ({"importance": np.zeros(256, np.float32).tobytes()}, "above 0"),
        ({"importance": np.full(256, np.nan, np.float32).tobytes()}, "above 0"),
        ({"data": np.full(256, np.inf, np.float32).tobytes()}, "row 0 .*Q4_K"),
    ],
)
def test_rows_that_cannot_be_rewritten(team: Team, changes: dict[str, object], words: str) -> None:
    plain = {"source": bf.F32.ggml_type, "target": bf.Q4_K.ggml_type, "cols": 256, "data": b""}
    with pytest.raises(InputError, match=words):
        requantize(team(1), **{**plain, **changes})
