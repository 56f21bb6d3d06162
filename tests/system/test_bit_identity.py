"""The same bits whatever the steps: logits of a sequence depend on its tokens alone.

One row at a time, chunks of any size, several sequences in one step with their spans interleaved,
pages in any order, any number of threads and every instruction set must agree at each logit.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.checkpoints import matrices, tiny_config, tiny_model, write_gguf
from support.containers import read_gguf
from support.driver import MAX_ROWS, Driver, chunked_logits, open_runtime
from support.models import real_model
from support.tiny_families import WIDE
from tonnage._native import best_isa, has_isa
from tonnage.backends.cpu.runtime import CpuRuntime
from tonnage.backends.protocol import PooledRows, Span
from tonnage.core.model_spec import ModelSpec
from tonnage.core.plan import KV_FORMATS, KvFormat
from tonnage.formats.gguf import GgufFile
from tonnage.machine.isa import ISAS
from tonnage.models.registry import spec_from_gguf
from tonnage.planner.quality.precision import PRECISIONS, precision_formats

KINDS = (
    ("llama", "Q4_1", "f16"), ("qwen3", "BF16", "f16"), ("gemma2", "Q8_0", "f16"),
    ("gemma3_text", "Q5_0", "f16"), ("llama", "Q4_1", "int8"), ("gemma2", "Q8_0", "int8"),
    ("olmo2", "Q8_0", "f16"), ("olmo2", "BF16", "int8"),
    # Branches in parallel behind a LayerNorm; a plain MLP; queries that grow.
    ("cohere2", "Q8_0", "int8"), ("cohere", "F16", "f16"), ("starcoder2", "Q4_1", "f16"),
    ("ministral3", "Q8_0", "f16"),
    # Sizes that are no multiple of 32, and floats that loading makes codes of.
    ("odd llama", "8bit", "f16"), ("odd gemma2", "F16", "int8"), ("odd olmo2", "4bit", "int8"),
)  # fmt: skip
ODD: dict[str, object] = {
    "head_dim": 100, "hidden_size": 300, "num_attention_heads": 3, "num_key_value_heads": 1,
    "intermediate_size": 145,
}  # fmt: skip


def tiny_spec(folder: Path, family: str, kind: str) -> ModelSpec:
    """Return a tiny model whose windows and pages are shorter than the sequences here."""
    name = family.removeprefix("odd ")
    sizes = WIDE.get(family, {}) if name == family else ODD
    model = tiny_model(tiny_config(name, num_hidden_layers=2, **sizes))
    stored = matrices("F16" if kind in PRECISIONS else kind)
    return spec_from_gguf(*read_gguf(write_gguf(folder / "m.gguf", model, stored)))


def opened_like(spec: ModelSpec, like: CpuRuntime, isa: str, threads: int) -> CpuRuntime:
    """Return a runtime with the weights and pages of `like`."""
    formats = tuple((matrix.name, matrix.format) for matrix in like.plan.matrices)
    return open_runtime(spec, isa, threads, kv_format=like.plan.kv.format, formats=formats)


def ids(spec: ModelSpec, count: int, seed: int = 0) -> list[int]:
    """Return random tokens."""
    return np.random.default_rng(seed).integers(0, spec.vocab_size, count).tolist()


def assert_equal(actual: np.ndarray, expected: np.ndarray) -> None:
    """Assert the same bits, and say where they end."""
    same = (actual.view(np.uint32) == expected.view(np.uint32)).all(axis=1)
    assert same.all(), f"the logits of positions {np.flatnonzero(~same).tolist()} differ"


@pytest.fixture(scope="module", params=KINDS, ids="-".join)
def opened(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ModelSpec, CpuRuntime, np.ndarray]]:
    """A tiny model, its runtime, and the logits of 150 tokens fed one by one."""
    family, kind, kv_format = request.param
    spec = tiny_spec(tmp_path_factory.mktemp("tiny"), family, kind)
    formats = precision_formats(spec, kind if kind in PRECISIONS else None)
    runtime = open_runtime(spec, best_isa(), 2, kv_format=kv_format, formats=formats)
    yield spec, runtime, chunked_logits(runtime, ids(spec, 150), [1] * 150)
    runtime.close()


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(
    sizes=st.lists(st.integers(1, MAX_ROWS), max_size=12),
    page_order=st.permutations(range(12)),
)
def test_chunks_of_any_size_on_pages_of_any_order(
    opened: tuple[ModelSpec, CpuRuntime, np.ndarray], sizes: list[int], page_order: list[int]
) -> None:
    spec, runtime, expected = opened
    assert_equal(chunked_logits(runtime, ids(spec, 150), sizes, page_order), expected)


@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 1 << 32), largest=st.integers(1, MAX_ROWS))
def test_several_sequences_in_one_step(
    opened: tuple[ModelSpec, CpuRuntime, np.ndarray], seed: int, largest: int
) -> None:
    spec, runtime, _ = opened
    texts = [ids(spec, count, seed=count) for count in (70, 33, 90, 5)]
    expected = [chunked_logits(runtime, text, [7]) for text in texts]
    rng = np.random.default_rng(seed)
    driver = Driver(runtime, rng.permutation(12).tolist())
    fed = [driver.sequence() for _ in texts]
    while any(f.position < len(text) for f, text in zip(fed, texts, strict=True)):
        room = MAX_ROWS
        pieces = []
        for i in rng.permutation(len(texts)):
            size = int(rng.integers(0, largest + 1))
            piece = texts[i][fed[i].position :][: min(size, room)]
            room -= len(piece)
            pieces += [(fed[i], piece)] if piece else []
        if pieces:
            driver.step(pieces)
    for got, logits in zip(fed, expected, strict=True):
        assert_equal(got.all_logits(), logits)


def test_a_sequence_on_used_pages(opened: tuple[ModelSpec, CpuRuntime, np.ndarray]) -> None:
    spec, runtime, expected = opened
    for seed in (1, 2):
        chunked_logits(runtime, ids(spec, 192, seed), [], [2, 0, 1])
    assert_equal(chunked_logits(runtime, ids(spec, 150), []), expected)


def test_only_some_logits_are_asked_for(opened: tuple[ModelSpec, CpuRuntime, np.ndarray]) -> None:
    spec, runtime, expected = opened
    driver = Driver(runtime)
    fed = driver.sequence()
    tokens = ids(spec, 150)
    driver.step([(fed, tokens[:40])])
    runtime.step(tokens[40:80], [Span(fed.pages.reach(40, 40), 40, 40)], [0, 23, 39])
    got = [np.frombuffer(runtime.logits(i), np.float32) for i in range(3)]
    assert_equal(np.array(got), expected[[40, 63, 79]])
    runtime.step(tokens[80:120], [Span(fed.pages.reach(80, 40), 40, 80)], [])
    runtime.step(tokens[120:121], [Span(fed.pages.reach(120, 1), 1, 120)], [0])
    assert_equal(np.frombuffer(runtime.logits(0), np.float32)[None], expected[120:121])


def summed(runtime: CpuRuntime, tokens: list[int], end: int) -> bytes:
    """Return the sum of the hidden states of the first `end` tokens, fed alone."""
    fed = Driver(runtime).sequence()
    pages = fed.pages.reach(0, end)
    runtime.step(tokens[:end], [Span(pages, end, 0)], [], [PooledRows(0, end, 0, begins=True)])
    return runtime.pooled(0)


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 1 << 32))
def test_rows_that_nobody_reads_change_nothing(
    opened: tuple[ModelSpec, CpuRuntime, np.ndarray], seed: int
) -> None:
    """Behind the last keys and values a step goes on with some of its rows only."""
    spec, runtime, _ = opened
    rng = np.random.default_rng(seed)
    texts = [ids(spec, int(rng.integers(1, 13)), seed=i) for i in range(4)]
    alone = [chunked_logits(runtime, text, []) for text in texts]
    ends = [int(rng.integers(1, len(text) + 1)) for text in texts]
    sums = [summed(runtime, text, end) for text, end in zip(texts, ends, strict=True)]
    is_pooled = rng.random(len(texts)) < 0.4
    driver, first = Driver(runtime), 0
    spans: list[Span] = []
    pooled: list[PooledRows] = []
    logit_rows: list[int] = []
    expected = []
    for i, text in enumerate(texts):
        spans.append(Span(driver.sequence().pages.reach(0, len(text)), len(text), 0))
        if is_pooled[i]:
            pooled.append(PooledRows(first, ends[i], i, begins=True))
        else:
            wanted = np.flatnonzero(rng.random(len(text)) < 0.3)
            logit_rows += [first + int(row) for row in wanted]
            expected += [alone[i][row] for row in wanted]
        first += len(text)
    runtime.step([token for text in texts for token in text], spans, logit_rows, pooled)
    got = [np.frombuffer(runtime.logits(row), np.float32) for row in range(len(logit_rows))]
    if expected:
        assert_equal(np.array(got), np.array(expected))
    assert [runtime.pooled(one.slot) for one in pooled] == [sums[one.slot] for one in pooled]


@pytest.mark.parametrize("threads", [1, 3])
def test_any_number_of_threads(
    opened: tuple[ModelSpec, CpuRuntime, np.ndarray], threads: int
) -> None:
    spec, like, expected = opened
    runtime = opened_like(spec, like, best_isa(), threads)
    for sizes in ([], [1, 5, 2, 17]):
        assert_equal(chunked_logits(runtime, ids(spec, 150), sizes), expected)
    runtime.close()


@pytest.mark.parametrize("isa", ISAS)
def test_every_instruction_set(opened: tuple[ModelSpec, CpuRuntime, np.ndarray], isa: str) -> None:
    if not has_isa(isa):
        pytest.skip(f"{isa} kernels were not run: not built, or not for this CPU")
    spec, like, expected = opened
    runtime = opened_like(spec, like, isa, 2)
    for sizes in ([], [1, 5, 2, 17]):
        assert_equal(chunked_logits(runtime, ids(spec, 150), sizes), expected)
    runtime.close()


@pytest.mark.slow
@pytest.mark.parametrize("kv_format", KV_FORMATS)
def test_a_real_model(kv_format: KvFormat) -> None:
    path = real_model()
    with GgufFile.open(path) as file:
        spec = spec_from_gguf(file.metadata, file.catalog)
    tokens = ids(spec, 150)
    runtime = open_runtime(spec, best_isa(), 2, kv_format=kv_format)
    expected = chunked_logits(runtime, tokens, [])
    rng = np.random.default_rng(1)
    for _ in range(3):
        sizes = rng.integers(1, MAX_ROWS, 20).tolist()
        page_order = rng.permutation(12).tolist()
        assert_equal(chunked_logits(runtime, tokens, sizes, page_order), expected)
    assert_equal(chunked_logits(runtime, tokens[:70], [1] * 70), expected[:70])
    _assert_batches_agree(runtime, tokens, expected, rng)
    runtime.close()
    for isa, threads in ((best_isa(), 1), (best_isa(), 3), ("avx2", 2)):
        if has_isa(isa):
            other = open_runtime(spec, isa, threads, kv_format=kv_format)
            assert_equal(chunked_logits(other, tokens[:100], [1, 5, 33]), expected[:100])
            other.close()


def _assert_batches_agree(
    runtime: CpuRuntime, tokens: list[int], expected: np.ndarray, rng: np.random.Generator
) -> None:
    """Assert that four copies of a sequence, at different places in the same steps, agree."""
    driver = Driver(runtime, rng.permutation(12).tolist())
    fed = [driver.sequence() for _ in range(4)]
    while min(f.position for f in fed) < 100:
        pieces = []
        for f in rng.permutation(np.array(fed, dtype=object)):
            size = int(rng.integers(0, 12))
            pieces += [(f, tokens[f.position :][:size])] if tokens[f.position :][:size] else []
        if pieces:
            driver.step(pieces)
    for f in fed:
        assert_equal(f.all_logits(), expected[: f.position])
