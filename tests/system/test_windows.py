"""Layers with a window keep only its pages, and nothing else changes: the same bits, used again."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.cached_sequence import Sequence
from support.checkpoints import matrices, tiny_config, tiny_model, write_gguf
from support.containers import read_gguf
from support.driver import MAX_ROWS, Driver, chunked_logits, open_runtime
from support.page_tables import BEHIND
from tonnage._native import InputError, best_isa, has_isa
from tonnage.backends.cpu.runtime import CpuRuntime
from tonnage.backends.protocol import Span
from tonnage.core.model_spec import ModelSpec
from tonnage.machine.isa import ISAS
from tonnage.models.registry import spec_from_gguf

NUM_TOKENS = 420
# Family, window, format of the pages; every layer of mistral has a window, of gemma2 one in two.
KINDS = (
    ("gemma2", 100, "f16"), ("gemma2", 5, "int8"), ("mistral", 64, "f16"), ("mistral", 65, "int8"),
    ("gemma3_text", 1, "f16"),
)  # fmt: skip


def windowed_spec(folder: Path, family: str, window: int) -> ModelSpec:
    """Return a tiny model with layers of that window."""
    sizes = {"hidden_size": 128} if family == "mistral" else {}
    config = tiny_config(family, num_hidden_layers=2, sliding_window=window, **sizes)
    if family == "gemma3_text":
        config["layer_types"] = ["sliding_attention", "full_attention"]
    return spec_from_gguf(
        *read_gguf(write_gguf(folder / "m.gguf", tiny_model(config), matrices("Q8_0")))
    )


def open_windowed(spec: ModelSpec, kv_format: str, isa: str = "", threads: int = 2) -> CpuRuntime:
    """Return a runtime of three sequences whose windows take fewer pages than their context."""
    return open_runtime(
        spec, isa or best_isa(), threads, context_tokens=448, concurrency=3, kv_format=kv_format
    )


def ids(spec: ModelSpec, count: int, seed: int = 0) -> list[int]:
    """Return random tokens."""
    return np.random.default_rng(seed).integers(0, spec.vocab_size, count).tolist()


def assert_equal(actual: np.ndarray, expected: np.ndarray) -> None:
    """Assert the same bits."""
    same = (actual.view(np.uint32) == expected.view(np.uint32)).all(axis=-1)
    assert same.all(), f"the logits of positions {np.flatnonzero(~same).tolist()} differ"


Opened = tuple[ModelSpec, CpuRuntime, np.ndarray]


@pytest.fixture(scope="module", params=KINDS, ids=str)
def opened(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Opened]:
    """A model, its runtime, and logits from one that keeps every page of every layer."""
    family, window, kv_format = request.param
    spec = windowed_spec(tmp_path_factory.mktemp("tiny"), family, window)
    everything = open_runtime(
        spec, best_isa(), 2, context_tokens=448, concurrency=1, kv_format=kv_format, max_rows=448
    )
    assert [group.window for group in everything.plan.kv.groups] == [0]
    expected = chunked_logits(everything, ids(spec, NUM_TOKENS), [])
    everything.close()
    runtime = open_windowed(spec, kv_format)
    assert [group.window for group in runtime.plan.kv.groups] == [0, window]
    yield spec, runtime, expected
    runtime.close()


def test_a_window_takes_pages_for_itself_and_one_step(opened: Opened) -> None:
    _, runtime, _ = opened
    everything, windowed = runtime.plan.kv.groups
    assert everything.num_pages == 3 * 7
    assert windowed.num_pages == 3 * (-(-(windowed.window + MAX_ROWS) // 64) + 1)
    assert runtime.plan.kv.nbytes == everything.nbytes + windowed.nbytes
    assert windowed.page_stride > 0


@settings(deadline=None, max_examples=4, suppress_health_check=[HealthCheck.too_slow])
@given(
    sizes=st.lists(st.integers(1, MAX_ROWS), min_size=1, max_size=20),
    page_order=st.permutations(range(21)),
)
def test_chunks_of_any_size_on_pages_of_any_order(
    opened: Opened, sizes: list[int], page_order: list[int]
) -> None:
    spec, runtime, expected = opened
    got = chunked_logits(runtime, ids(spec, NUM_TOKENS), sizes, page_order)
    assert_equal(got, expected)


@settings(deadline=None, max_examples=3, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 1 << 32))
def test_several_sequences_in_one_step(opened: Opened, seed: int) -> None:
    spec, runtime, expected = opened
    tokens = ids(spec, NUM_TOKENS)
    rng = np.random.default_rng(seed)
    driver = Driver(runtime, rng.permutation(21).tolist())
    fed = [driver.sequence() for _ in range(3)]
    while any(f.position < NUM_TOKENS for f in fed):
        pieces = [(f, tokens[f.position :][: int(rng.integers(0, 17))]) for f in fed]
        driver.step([(f, piece) for f, piece in pieces if piece])
    for f in fed:
        assert_equal(f.all_logits(), expected)
    # All of them went round: what is behind the window has no page any more.
    tables = [f.pages.reach(NUM_TOKENS, 0) for f in fed]
    assert all(BEHIND not in whole for whole, _ in tables)
    assert all(BEHIND in windowed for _, windowed in tables)


@pytest.mark.parametrize("isa", ISAS)
def test_every_instruction_set_and_number_of_threads(opened: Opened, isa: str) -> None:
    if not has_isa(isa):
        pytest.skip(f"{isa} kernels were not run: not built, or not for this CPU")
    spec, like, expected = opened
    for threads in (1, 3):
        runtime = open_windowed(spec, like.plan.kv.format, isa, threads)
        assert_equal(chunked_logits(runtime, ids(spec, NUM_TOKENS), [1, 5, 33]), expected)
        runtime.close()


def test_a_page_inside_the_window_must_be_there(opened: Opened) -> None:
    spec, runtime, _ = opened
    window = runtime.plan.kv.groups[1].window
    pages = [list(range(7)), [0] * 7]
    position = 5 * 64 + window - 2  # its window begins with the last position of page 4
    pages[1][4] = BEHIND
    if position < 448:
        with pytest.raises(InputError, match="a page id is -1"):
            runtime.step(ids(spec, 1), [Span(pages, 1, position)], [0])


@settings(deadline=None, max_examples=5, suppress_health_check=[HealthCheck.too_slow])
@given(
    prompts=st.lists(
        st.tuples(st.integers(0, 2), st.integers(1, 400), st.integers(1, 440)), max_size=8
    )
)
def test_rewinding_gives_what_a_fresh_sequence_gives(
    opened: Opened, prompts: list[tuple[int, int, int]]
) -> None:
    spec, runtime, _ = opened
    pages = [list(range(group.num_pages // 3)) for group in runtime.plan.kv.groups]
    sequence = Sequence(runtime, pages)
    texts = [ids(spec, 448, seed) for seed in range(3)]
    prompt = texts[0][:300]
    for text, shared, length in [(0, 0, 300), *prompts]:
        prompt = (prompt[:shared] + texts[text][shared:])[:length]
        before = len(sequence.tokens)
        kept = sequence.rewind_to(prompt)
        assert 0 <= kept < len(prompt)
        assert sequence.tokens == prompt[:kept]
        assert kept <= before
        for begin in range(kept, len(prompt), MAX_ROWS):
            sequence.extend(prompt[begin : begin + MAX_ROWS])
        logits = np.frombuffer(runtime.logits(0), np.float32)
        assert_equal(logits, fresh_logits(runtime, prompt))


def fresh_logits(runtime: CpuRuntime, prompt: list[int]) -> np.ndarray:
    """Return the last logits of `prompt`, computed on the third sequence's pages."""
    pages = [
        list(range(2 * (group.num_pages // 3), group.num_pages)) for group in runtime.plan.kv.groups
    ]
    fresh = Sequence(runtime, pages)
    for begin in range(0, len(prompt), MAX_ROWS):
        fresh.extend(prompt[begin : begin + MAX_ROWS])
    return np.frombuffer(runtime.logits(0), np.float32)


def test_going_back_within_the_pages_that_are_left_keeps_the_prefix(opened: Opened) -> None:
    spec, runtime, _ = opened
    tokens = ids(spec, 448)
    pages = [list(range(group.num_pages // 3)) for group in runtime.plan.kv.groups]
    sequence = Sequence(runtime, pages)
    for begin in range(0, 400, 40):
        sequence.extend(tokens[begin : begin + 40])
    # The pages hold a step more than the window.
    assert sequence.rewind_to([*tokens[:390], 1 + tokens[390] % 2]) == 390
    sequence.extend(tokens[390:391])
    assert sequence.rewind_to(tokens[:20]) == 0
    assert sequence.tokens == []
