"""Models whose width, inner size and heads are no multiple of 32, from the file to the text."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from support.checkpoints import all_f32, matrices, tiny_config, tiny_model, write_gguf, write_hf
from support.command import tonnage
from tonnage.backends.reference.backend import ReferenceBackend
from tonnage.core.plan import KV_FORMATS
from tonnage.core.sampling import SamplingOptions
from tonnage.engine.engine import Engine

SIZES = {
    "head_dim": 100, "hidden_size": 140, "intermediate_size": 179, "num_attention_heads": 3,
    "num_key_value_heads": 1, "num_hidden_layers": 2,
}  # fmt: skip
GREEDY = SamplingOptions(max_tokens=24, temperature=0, ignore_eos=True)
PROMPTS = [list(range(5, 100)), list(range(5, 75)), [7, 3, 9]]


def folder(at: Path) -> Path:
    """Return a folder of bfloat16."""
    return write_hf(at / "folder", tiny_model(tiny_config("qwen2", **SIZES)), dtype="BF16")


def float_file(at: Path) -> Path:
    """Return a GGUF file of float16."""
    model = tiny_model(tiny_config("gemma3_text", **SIZES, sliding_window=70))
    return write_gguf(at / "f16.gguf", model, matrices("F16"))


def block_file(at: Path) -> Path:
    """Return a GGUF file in blocks, whose rows are whole blocks though its heads are not."""
    sizes = {**SIZES, "hidden_size": 160, "intermediate_size": 160, "num_attention_heads": 8}
    model = tiny_model(tiny_config("llama", **sizes))
    return write_gguf(at / "q8_0.gguf", model, matrices("Q8_0"))


@pytest.fixture(scope="module", params=[folder, float_file, block_file])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    write: Callable[[Path], Path] = request.param
    return write(tmp_path_factory.mktemp("odd"))


def answers(engine: Engine) -> list[list[int]]:
    return [one.tokens for one in engine.generate_batch(PROMPTS, GREEDY)]


@pytest.mark.parametrize("kv_format", KV_FORMATS)
def test_alone_together_from_the_cache_and_by_any_threads(model: Path, kv_format: str) -> None:
    found = []
    for threads in (1, 2):
        with Engine.open(
            str(model), context=256, concurrency=3, threads=threads, kv_format=kv_format
        ) as engine:
            assert engine.plan.kv.format == kv_format
            together = answers(engine)
            again = engine.generate(PROMPTS[0], GREEDY)
            found.append([*together, again.complete().tokens])
            assert again.num_cached_tokens >= 64
    with Engine.open(str(model), context=256, threads=2, kv_format=kv_format) as engine:
        alone = [engine.generate(prompt, GREEDY).complete() for prompt in reversed(PROMPTS)]
    tokens = [one.tokens for one in reversed(alone)]
    assert found == [[*tokens, tokens[0]]] * 2


def test_tokens_and_vectors_are_those_of_the_reference(model: Path) -> None:
    found = []
    for backend in (None, ReferenceBackend()):
        with Engine.open(
            str(model), context=256, concurrency=3, kv_format="f16", backend=backend
        ) as engine:
            vectors = [one.vector for one in engine.embed(PROMPTS)]
            found.append((answers(engine), np.array(vectors)))
    (cpu, cpu_vectors), (reference, vectors) = found
    if model.stem != "q8_0":  # Codes of activations may lead elsewhere.
        assert cpu == reference
    assert cpu_vectors.shape == vectors.shape == (3, engine.plan.d_model)
    assert (cpu_vectors * vectors).sum(axis=1).min() > 0.999


def test_the_plan_and_what_another_machine_would_do(model: Path, tmp_path: Path) -> None:
    sizes = ("--context", 256, "--threads", 1)
    plan = json.loads(tonnage(tmp_path, "plan", model, *sizes, "--json").stdout)
    assert plan["accepted"]
    machines = ("--machine", "h100-sxm", "--machine", "m4-max")
    done = tonnage(tmp_path, "plan", model, *sizes, *machines, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    for machine in json.loads(done.stdout)["machines"]:
        assert machine["forecast"]["decode_tokens_per_s"] > 0
    done = tonnage(tmp_path, "embed", model, "x", "--dimensions", 4, *sizes)
    assert (done.returncode, len(done.stdout.split())) == (0, 4)


def test_weights_become_smaller_where_the_budget_asks_for_it(tmp_path: Path) -> None:
    """Rows of any length become blocks of 32; the plan and the process have the bytes of those."""
    sizes = {**SIZES, "hidden_size": 420, "intermediate_size": 1432}
    path = write_gguf(tmp_path / "m.gguf", tiny_model(tiny_config("llama", **sizes)), all_f32)
    with Engine.open(str(path), context=256, threads=1) as engine:
        floats = engine.plan
    assert {matrix.format for matrix in floats.matrices} == {"F32"}
    memory = floats.total_bytes - (4 << 20)
    with Engine.open(str(path), context=256, threads=1, memory=memory, quality=1e3) as engine:
        smaller = engine.plan
        coded = [matrix for matrix in smaller.matrices if matrix.format != "F32"]
        assert coded
        assert smaller.total_bytes <= memory
        assert len(engine.generate(PROMPTS[0], GREEDY).complete().tokens) == 24
        ledger = engine.ledger()
    weights = next(item for item in ledger.items if item.name == "weights")
    assert weights.now_bytes <= weights.planned_bytes
