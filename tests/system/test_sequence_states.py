"""State per sequence through the whole engine: what runs beside, hits, drafts and the disk.

On the reference backend, with a block that no model has. Sums of float64 depend on how many rows a
product has, so log probabilities are compared within rounding, and tokens exactly.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from support.checkpoints import tiny_config, tiny_model, write_gguf
from support.decayed_sum import DECAY, DecayRuntime, with_decayed_sums
from system.test_drafts import Guesses
from system.test_serving import requests
from tonnage.backends.cpu.layout.plan import make_plan
from tonnage.backends.protocol import Span
from tonnage.core.model_spec import ModelSpec
from tonnage.core.workload import Workload
from tonnage.engine.build import ServingOptions, build_serving
from tonnage.engine.disk_tier import DiskOptions, note_model, open_tier
from tonnage.engine.generation import Generation
from tonnage.engine.headers import read_model
from tonnage.engine.job import RequestParameters
from tonnage.engine.stream import Serving
from tonnage.kvcache.page_identity import page_identity
from tonnage.store.source import ModelSource
from tonnage.text.tokenizer import Tokenizer

CONTEXT = 320
NUM_LOGPROB_BITS = 2.0**-18  # of float32 logits behind float64 sums in another order


@dataclass(frozen=True)
class Model:
    spec: ModelSpec
    tokenizer: Tokenizer
    path: Path


@pytest.fixture(scope="module", params=["llama", "mistral"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    sizes = {"hidden_size": 128, "sliding_window": 70} if request.param == "mistral" else {}
    config = tiny_config(request.param, max_position_embeddings=1 << 12, **sizes)
    folder = tmp_path_factory.mktemp("model")
    path = write_gguf(folder / "tiny.gguf", tiny_model(config, seed=1))
    spec, tokenizer = read_model(ModelSource("tiny", path, "gguf"))
    return Model(with_decayed_sums(spec, folder / "mix.bin"), tokenizer, path)


def runtime_of(model: Model, *, concurrency: int = 3, num_snapshots: int = 6) -> DecayRuntime:
    workload = Workload(
        context_tokens=CONTEXT, threads=1, concurrency=concurrency, max_rows=64,
        max_logit_rows=12, num_snapshots=num_snapshots,
    )  # fmt: skip
    return DecayRuntime(make_plan(model.spec, workload))


def serving_of(model: Model, runtime: DecayRuntime, disk: DiskOptions | None = None) -> Serving:
    options = ServingOptions(disk=disk)
    noted = note_model(disk, model.path)
    store = open_tier(disk, noted, model.path, runtime, model.tokenizer)
    return build_serving(runtime, model.tokenizer, options, store=store)


def run(serving: Serving, made: Sequence[tuple], *, at_once: int) -> list[Generation]:
    """Run the requests, so many at once; return what became of them."""
    done: list[Generation] = []
    for begin in range(0, len(made), at_once):
        group = [
            Generation(prompt, options, options.resolved_seed())
            for prompt, options in made[begin : begin + at_once]
        ]
        jobs = [serving._job(one, RequestParameters(), None) for one in group]
        serving.loop.submit(*jobs)
        serving.loop.advance(lambda jobs=jobs: all(job.ended for job in jobs))
        assert [job.failure for job in jobs] == [None] * len(jobs)
        done += group
    serving.loop.scheduler.cache.check()
    return done


def assert_same(ours: list[Generation], expected: list[Generation]) -> None:
    assert [one.tokens for one in ours] == [one.tokens for one in expected]
    for one, other in zip(ours, expected, strict=True):
        np.testing.assert_allclose(
            [entry.logprob for entry in one.logprobs],
            [entry.logprob for entry in other.logprobs],
            rtol=0, atol=NUM_LOGPROB_BITS,
        )  # fmt: skip


@pytest.fixture(scope="module")
def made() -> list[tuple]:
    return requests(10, seed=3)


@pytest.fixture(scope="module")
def alone(model: Model, made: list[tuple]) -> list[Generation]:
    """Return each request's completion by a runtime of its own: no hit, nothing beside."""
    return [
        run(serving_of(model, runtime_of(model, concurrency=1)), [one], at_once=1)[0]
        for one in made
    ]


def test_the_plan_has_a_place_for_every_state(model: Model) -> None:
    plan = runtime_of(model).plan
    num_blocks = len(model.spec.layers) // 2
    assert [block.elements for block in plan.slots.blocks] == [model.spec.d_model] * num_blocks
    assert plan.slots.stride >= 4 * model.spec.d_model * num_blocks
    assert plan.slots.nbytes == (3 + 6) * plan.slots.stride
    (item,) = (item for item in plan.items if item.kind == "state")
    assert plan.slots.nbytes <= item.planned_bytes < plan.slots.nbytes + (2 << 20)
    ends = sorted((buffer.offset, buffer.nbytes) for buffer in plan.buffers)
    assert plan.slots.offset + plan.slots.nbytes <= ends[0][0]


def test_a_state_is_the_sum_over_all_tokens_so_far(model: Model) -> None:
    """The oracle is the sum written out: what chunks leave in the slot is what one step leaves."""
    runtime, tokens = runtime_of(model), list(range(3, 50))
    found = []
    for sizes in ([47], [1, 20, 26]):
        position = 0
        for size in sizes:
            pages = [list(range(4)) for _ in runtime.plan.kv.groups]
            span = Span(pages, size, position, slot=1)
            runtime.step(tokens[position : position + size], [span], [])
            position += size
        found.append(np.frombuffer(runtime.read_state(1)))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-9, atol=1e-12)
    assert np.abs(found[0]).max() > 0
    # A second token adds its own input to what is left of the first.
    runtime.step([7], [Span(pages, 1, 0, slot=2)], [])
    first = runtime.block_states(0, 2).copy()
    runtime.step([7, 9], [Span(pages, 2, 0, slot=2)], [])
    both = runtime.block_states(0, 2).copy()
    runtime.states[2] = 0
    runtime.step([9], [Span(pages, 1, 1, slot=2)], [])
    np.testing.assert_allclose(both, DECAY * first + runtime.block_states(0, 2), atol=1e-12)


@pytest.mark.parametrize("at_once", [1, 3])
def test_others_beside_and_hits_change_nothing(
    model: Model, made: list[tuple], alone: list[Generation], at_once: int
) -> None:
    serving = serving_of(model, runtime_of(model))
    assert_same(run(serving, made, at_once=at_once), alone)
    again = run(serving, made, at_once=at_once)
    assert_same(again, alone)
    assert sum(one.num_cached_tokens for one in again) > 0


def test_without_snapshots_nothing_is_found_and_all_is_right(
    model: Model, made: list[tuple], alone: list[Generation]
) -> None:
    serving = serving_of(model, runtime_of(model, num_snapshots=1))
    for _ in range(2):
        assert_same(run(serving, made, at_once=3), alone)


@pytest.mark.parametrize("seed", range(2))
def test_rejected_drafts_leave_no_trace(
    model: Model, made: list[tuple], alone: list[Generation], seed: int
) -> None:
    serving = serving_of(model, runtime_of(model))
    whole = [[*one.prompt, *one.tokens] for one in alone]
    vocab_size = model.spec.vocab_size
    serving.loop.draft_source = Guesses(whole, random.Random(seed), vocab_size)
    assert_same(run(serving, made, at_once=3), alone)


def test_states_come_back_from_the_disk(
    model: Model, made: list[tuple], alone: list[Generation], tmp_path: Path
) -> None:
    disk = DiskOptions(1 << 28, tmp_path)
    first = serving_of(model, runtime_of(model), disk)
    run(first, made, at_once=3)
    first.loop.close()
    second = serving_of(model, runtime_of(model), disk)
    again = run(second, made, at_once=3)
    assert_same(again, alone)
    assert sum(one.num_cached_tokens for one in again) > 0
    second.loop.close()


def test_identity_depends_on_states(model: Model) -> None:
    plan = runtime_of(model).plan
    blocks = tuple(replace(one, elements=one.elements + 16) for one in plan.slots.blocks)
    other = replace(plan, slots=replace(plan.slots, blocks=blocks))
    more = replace(plan, slots=replace(plan.slots, num_slots=9, num_snapshots=0))
    mine = page_identity("m", "t", None, plan)
    assert page_identity("m", "t", None, other) != mine
    assert page_identity("m", "t", None, more) == mine
