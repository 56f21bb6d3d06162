"""The reference backend against the reference transformer: both in float64, written apart."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from oracles.transformer import forward, last_hidden_state
from support.checkpoints import FAMILIES, matrices, tiny_config, tiny_model, write_gguf, write_hf
from support.containers import read_gguf, read_hf, weights_of
from support.described import described
from support.driver import Driver, chunked_logits
from tonnage.backends.protocol import PooledRows, Span
from tonnage.backends.reference.backend import ReferenceBackend
from tonnage.backends.reference.runtime import ReferenceRuntime
from tonnage.core.errors import FileFormatError
from tonnage.core.model_spec import ModelSpec
from tonnage.core.plan import KV_FORMATS
from tonnage.core.sampling import SamplingOptions
from tonnage.core.workload import Workload
from tonnage.engine.engine import Engine
from tonnage.models.registry import spec_from_gguf, spec_from_hf

NUM_TOKENS = 90
# Half a unit of the last place of the float32 logits, doubled for what float64 sums differ in.
ROUNDING = 2.0**-23


def loaded(spec: ModelSpec, kv_format: str = "f16") -> ReferenceRuntime:
    workload = Workload(
        context_tokens=192, threads=1, concurrency=2, max_rows=48, max_logit_rows=48,
        kv_format=kv_format,
    )  # fmt: skip
    backend = ReferenceBackend()
    return backend.load(backend.layout.plan(spec, workload))


def tokens_of(spec: ModelSpec) -> list[int]:
    return np.random.default_rng(11).integers(0, spec.vocab_size, NUM_TOKENS).tolist()


def assert_same(ours: np.ndarray, exact: np.ndarray) -> None:
    scale = np.abs(exact).max()
    np.testing.assert_allclose(ours, exact, rtol=ROUNDING, atol=ROUNDING * 1e-3 * scale)


@pytest.mark.parametrize("sizes", [[NUM_TOKENS // 2], [1, 40, 3, 17, 1]])
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_of_folders(family: str, sizes: Sequence[int], tmp_path: Path) -> None:
    spec = spec_from_hf(*read_hf(write_hf(tmp_path, tiny_model(tiny_config(family)))))
    tokens = tokens_of(spec)
    assert_same(
        chunked_logits(loaded(spec), tokens, sizes),
        forward(described(spec), weights_of(spec), tokens),
    )


@pytest.mark.parametrize("kv_format", KV_FORMATS)
@pytest.mark.parametrize("family", FAMILIES)
def test_formats_of_pages_and_of_blocks_lose_nothing_here(
    family: str, kv_format: str, tmp_path: Path
) -> None:
    path = write_gguf(tmp_path / "m.gguf", tiny_model(tiny_config(family)), matrices("Q4_1"))
    spec = spec_from_gguf(*read_gguf(path))
    tokens = tokens_of(spec)
    assert_same(
        chunked_logits(loaded(spec, kv_format), tokens, [NUM_TOKENS // 2]),
        forward(described(spec), weights_of(spec), tokens),
    )


@pytest.mark.parametrize("family", ["llama", "gemma2", "olmo2"])
def test_sums_of_hidden_states(family: str, tmp_path: Path) -> None:
    spec = spec_from_hf(*read_hf(write_hf(tmp_path, tiny_model(tiny_config(family)))))
    tokens, runtime = tokens_of(spec)[:40], loaded(spec)
    pages = Driver(runtime).sequence().pages
    for begin, end in ((0, 25), (25, 40)):
        span = Span(pages.reach(begin, end - begin), end - begin, begin)
        runtime.step(tokens[begin:end], [span], [], [PooledRows(0, end - begin, 1, begin == 0)])
    states = last_hidden_state(described(spec), weights_of(spec), tokens)
    np.testing.assert_allclose(np.frombuffer(runtime.pooled(1)), states.sum(axis=0), rtol=1e-10)


def test_pages_move_whole(tmp_path: Path) -> None:
    spec = spec_from_hf(*read_hf(write_hf(tmp_path, tiny_model(tiny_config("gemma3_text")))))
    runtime = loaded(spec)
    chunked_logits(runtime, tokens_of(spec), [48])
    groups = [i for i, group in enumerate(runtime.plan.kv.groups) if group.page_stride]
    assert groups
    for group in groups:
        runtime.copy_page(group, 0, 1)
        assert runtime.read_page(group, 0) == runtime.read_page(group, 1)
        assert np.frombuffer(runtime.read_page(group, 0)).any()
        runtime.release_pages(group, [0])
        assert not np.frombuffer(runtime.read_page(group, 0)).any()


def test_a_file_that_ends_early(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", tiny_model(tiny_config("llama")), matrices("Q8_0"))
    spec = spec_from_gguf(*read_gguf(path))
    path.write_bytes(path.read_bytes()[:-4000])
    with pytest.raises(FileFormatError, match="ended while"):
        loaded(spec)


@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
def test_an_engine_on_the_reference_says_what_the_cpu_says(family: str, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", tiny_model(tiny_config(family)))
    prompt, texts = list(range(5, 75)), [[5, 6, 7], list(range(9, 90))]
    found, panels = [], []
    for backend in (None, ReferenceBackend()):
        with Engine.open(str(path), context=256, concurrency=2, backend=backend) as engine:
            options = SamplingOptions(max_tokens=24, temperature=0, ignore_eos=True, logprobs=1)
            made = engine.generate_batch([prompt, prompt[:40]], options)
            again = engine.generate(prompt, options)
            assert (again.complete().tokens, again.num_cached_tokens) == (made[0].tokens, 64)
            vectors = [one.vector for one in engine.embed(texts)]
            found.append(([one.tokens for one in made], np.array(vectors)))
            assert engine.ledger().total_bytes > 0
            panels.append(engine.plan.panel_rows)
    (cpu, cpu_vectors), (reference, vectors) = found
    assert reference == cpu
    assert panels == [32, 1]  # Each was planned by the layout of its own backend.
    # Both vectors have length 1; the CPU's pages are f16 or int8.
    assert (cpu_vectors * vectors).sum(axis=1).min() > 0.999
