"""Many requests at once through an engine: answers are those of each request alone."""

import asyncio
import random
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from support.checkpoints import matrices, tiny_config, tiny_model, write_gguf
from support.models import real_model
from tonnage.core.errors import ContextLengthError, DeadlineError, OverloadError, RequestError
from tonnage.core.plan import KV_FORMATS
from tonnage.core.sampling import SamplingOptions
from tonnage.engine.build import ServingOptions
from tonnage.engine.disk_tier import DiskOptions
from tonnage.engine.engine import Engine
from tonnage.engine.generation import Generation
from tonnage.scheduler.scheduler import Scheduler

CONTEXT = 320
# Layers that see everything, some with a window beside them, windows only.
SIZES: dict[str, dict[str, object]] = {
    "llama": {}, "gemma3_text": {}, "mistral": {"hidden_size": 128, "sliding_window": 70},
}  # fmt: skip


@pytest.fixture(scope="module", params=SIZES)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = tiny_config(request.param, max_position_embeddings=1 << 12, **SIZES[request.param])
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    return write_gguf(path, tiny_model(config, seed=1), matrices("Q8_0"))


@pytest.fixture
def engine(model: Path) -> Iterator[Engine]:
    with Engine.open(str(model), context=CONTEXT, threads=2, concurrency=3) as opened:
        yield opened


def requests(count: int, seed: int, vocab: int = 300) -> list[tuple[list[int], SamplingOptions]]:
    """Return prompts of mixed length, half of them with a common beginning, and their options."""
    rng = random.Random(seed)
    shared = [rng.randrange(vocab) for _ in range(150)]
    made = []
    for index in range(count):
        prompt = shared[: rng.choice((0, 64, 100, 150))] if index % 2 else []
        prompt = prompt + [rng.randrange(vocab) for _ in range(rng.randrange(1, 120))]
        options = SamplingOptions(
            max_tokens=rng.randrange(1, 40), seed=index, logprobs=2, ignore_eos=True,
            temperature=rng.choice((0, 1.0)), repetition_penalty=rng.choice((1.0, 1.2)),
        )  # fmt: skip
        made.append((prompt, options))
    return made


def result(generation: Generation) -> tuple[object, ...]:
    return (
        generation.tokens, generation.text, generation.finish_reason,
        [(one.token_id, one.logprob, one.top) for one in generation.logprobs],
    )  # fmt: skip


def alone(
    path: Path, made: list[tuple[list[int], SamplingOptions]], kv_format: str | None = None
) -> list[tuple[object, ...]]:
    """Return every answer as an engine gives it that does nothing else and keeps no prefix."""
    answers = []
    nothing = ServingOptions(max_cached_bytes=0)
    with Engine.open(
        str(path), context=CONTEXT, threads=1, serving=nothing, kv_format=kv_format
    ) as engine:
        for prompt, options in made:
            generation = engine.generate(prompt, options).complete()
            assert generation.num_cached_tokens == 0
            answers.append(result(generation))
    return answers


async def arrive(
    engine: Engine, made: list[tuple[list[int], SamplingOptions]], rng: random.Random
) -> list[Generation]:
    """Send all requests at random times, from three tenants; return the answers."""

    async def one(prompt: list[int], options: SamplingOptions) -> Generation:
        await asyncio.sleep(rng.random() * 0.2)
        stream = engine.stream(
            prompt, options, priority=rng.choice((0, 0, 1)), tenant=rng.choice("abc")
        )
        text, tokens = "", []
        async for piece in stream:
            text += piece.text
            tokens += piece.tokens
        assert (text, tokens) == (stream.generation.text, stream.generation.tokens)
        return stream.generation

    return await asyncio.gather(*(one(*each) for each in made))


def assert_as_alone(path: Path, folder: Path, kv_format: str) -> None:
    """Send 64 requests to an engine with pages for two full contexts; compare all they got.

    Then the same to another one, with other threads, which finds on disk what the first has left.
    """
    made = requests(64, seed=1)
    expected = alone(path, made, kv_format)
    options = ServingOptions(max_stall_ns=2_000_000, disk=DiskOptions(1 << 30, folder))
    num_hits = []
    for threads in (1, 2):
        with Engine.open(
            str(path), context=CONTEXT, threads=threads, concurrency=6, max_batch_tokens=48,
            serving=options, kv_format=kv_format,
        ) as engine:  # fmt: skip
            engine.set_budget(engine.plan.total_bytes - engine.plan.kv.nbytes * 3 // 5)
            loop, rng = engine._serving.loop, random.Random(threads)
            loop.before_step = lambda now_ns, loop=loop, rng=rng: disturb(loop.scheduler, rng)
            answers = asyncio.run(arrive(engine, made, random.Random(threads)))
            counts = loop.scheduler.pressure.counts
            num_hits.append(loop.scheduler.cache.tree.store.store.counts.hits)
        assert [result(answer) for answer in answers] == expected
        assert counts["preempt"] > 3
        assert counts["evict"] > 0
        assert sum(answer.num_cached_tokens > 0 for answer in answers) > 8
    # What was evicted comes back in the first run; the second finds what the first had at its end.
    assert num_hits[0] > 0
    assert num_hits[1] > 8


def disturb(scheduler: Scheduler, rng: random.Random) -> None:
    """Preempt somebody now and then, whoever it is, and let chunks be of any size."""
    if scheduler.num_running > 1 and rng.random() < 0.1:
        scheduler.pressure.preempt(rng.choice(scheduler._running))
    rows = rng.randrange(1, 48)
    scheduler._step_ns = lambda count: 0 if count <= rows else 1 << 60


@pytest.mark.parametrize("kv_format", KV_FORMATS)
def test_64_requests_get_the_answers_they_get_alone(
    model: Path, kv_format: str, tmp_path: Path
) -> None:
    assert_as_alone(model, tmp_path, kv_format)


@pytest.mark.slow
@pytest.mark.parametrize("kv_format", KV_FORMATS)
def test_64_requests_of_a_real_model(kv_format: str, tmp_path: Path) -> None:
    assert_as_alone(real_model(), tmp_path, kv_format)


def test_a_batch_comes_in_its_order_with_its_failures(model: Path, engine: Engine) -> None:
    made = requests(10, seed=5)
    expected = alone(model, made)
    prompts = [prompt for prompt, _ in made]
    done: list[int] = []
    answers = engine.generate_batch(
        [*prompts, [1] * CONTEXT, []],
        [*(options for _, options in made), SamplingOptions(), SamplingOptions()],
        on_done=lambda index, answer: done.append(index),
    )
    assert [result(answer) for answer in answers[:10]] == expected
    assert sorted(done) == list(range(12))
    assert [answer.finish_reason for answer in answers[10:]] == ["error", "error"]
    assert isinstance(answers[10].error, ContextLengthError)
    assert isinstance(answers[11].error, RequestError)


def test_single_answers_and_streams_at_once(model: Path, engine: Engine) -> None:
    made = requests(8, seed=6)
    expected = alone(model, made)

    async def both() -> list[Generation]:
        streams = arrive(engine, made[:4], random.Random(1))
        singles = [asyncio.to_thread(engine.generate(*each).complete) for each in made[4:]]
        gathered = await asyncio.gather(streams, *singles)
        return [*gathered[0], *gathered[1:]]

    assert [result(answer) for answer in asyncio.run(both())] == expected


def test_answers_can_be_read_in_turns(model: Path, engine: Engine) -> None:
    made = requests(5, seed=7)
    answers = [engine.generate(*each) for each in made]
    iterators = [iter(answer) for answer in answers]
    while iterators:
        iterators = [one for one in iterators if next(one, None) is not None]
    assert [result(answer) for answer in answers] == alone(model, made)


def used_pages(engine: Engine) -> int:
    scheduler = engine._serving.loop.scheduler
    assert scheduler.num_waiting == 0
    return sum(pool.num_used for pool in scheduler.cache.pools)


def test_closing_a_stream_frees_its_pages(engine: Engine) -> None:
    async def close_early() -> None:
        stream = engine.stream([1, 2, 3], max_tokens=300, ignore_eos=True)
        async with aclosing(stream):
            async for _ in stream:
                break
        assert used_pages(engine) == 0
        assert stream.generation.finish_reason is None
        never = engine.stream([1, 2, 3])
        await never.aclose()
        assert [piece async for piece in never] == []

    asyncio.run(close_early())


def test_a_cancelled_task_frees_its_pages(engine: Engine) -> None:
    async def consume() -> None:
        async with engine.stream([1, 2, 3], max_tokens=300, ignore_eos=True) as stream:
            async for _ in stream:
                pass

    async def cancel() -> None:
        task = asyncio.create_task(consume())
        while used_pages(engine) == 0:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert used_pages(engine) == 0

    asyncio.run(cancel())


def test_an_abandoned_answer_frees_its_pages_and_gives_way(engine: Engine) -> None:
    kept = [iter(engine.generate([1, 2, n], max_tokens=300, ignore_eos=True)) for n in range(3)]
    for one in kept:
        next(one)
    # All three slots are taken by answers that nobody reads.
    assert engine.generate([5, 6], max_tokens=20, ignore_eos=True).complete().tokens
    for one in kept:
        next(one)
        one.close()
    assert used_pages(engine) == 0


def test_a_conversation_computes_its_new_tokens_only(engine: Engine) -> None:
    prompt = list(range(1, 101))
    first = engine.generate(prompt, max_tokens=40, ignore_eos=True).complete()
    longer = [*prompt, *first.tokens, 7, 8, 9]
    second = engine.generate(longer, max_tokens=2).complete()
    assert second.num_cached_tokens == 139

    async def salted() -> int:
        stream = engine.stream(longer, max_tokens=2, cache_salt="another")
        async for _ in stream:
            pass
        return stream.generation.num_cached_tokens

    assert asyncio.run(salted()) == 0


def test_deadlines(engine: Engine) -> None:
    async def late() -> None:
        with pytest.raises(DeadlineError, match="first token"):
            async for _ in engine.stream([1, 2], deadline_s=0):
                pass
        stream = engine.stream([1, 2], max_tokens=300, ignore_eos=True, deadline_s=0.05)
        async for _ in stream:
            await asyncio.sleep(0.02)
        assert stream.generation.finish_reason == "deadline"
        assert stream.generation.tokens

    asyncio.run(late())
    assert used_pages(engine) == 0


def test_a_full_queue_refuses_with_a_time(model: Path) -> None:
    options = ServingOptions(max_waiting=2)
    with Engine.open(str(model), context=CONTEXT, threads=1, serving=options) as engine:

        async def overload() -> list[object]:
            async def one() -> object:
                async for _ in engine.stream([1, 2], max_tokens=100, ignore_eos=True):
                    pass
                return None

            return await asyncio.gather(*(one() for _ in range(8)), return_exceptions=True)

        outcomes = asyncio.run(overload())
    refused = [one for one in outcomes if isinstance(one, OverloadError)]
    assert 3 <= len(refused) <= 6
    assert outcomes.count(None) == 8 - len(refused)
    assert all(one.retry_after_s is not None and one.retry_after_s >= 1 for one in refused)


def test_a_budget_that_cannot_hold_a_request_refuses_it(engine: Engine) -> None:
    engine.generate([1, 2], max_tokens=200, ignore_eos=True).complete()
    engine.set_budget(engine.plan.total_bytes - engine.plan.kv.nbytes * 4 // 5)
    with pytest.raises(OverloadError, match="of KV pages and there are") as caught:
        engine.generate([1] * 250, max_tokens=60).complete()
    assert caught.value.missing_bytes > 0
    assert caught.value.retry_after_s is None
    assert len(engine.generate([1, 2], max_tokens=9, ignore_eos=True).complete().tokens) == 9
    engine.set_budget(engine.plan.total_bytes)
    engine.generate([1] * 250, max_tokens=60).complete()


@pytest.mark.parametrize("behind_native", [True, False])
def test_an_interrupted_step_loses_nothing(
    model: Path, engine: Engine, behind_native: bool
) -> None:
    made = requests(3, seed=8)
    expected = alone(model, made)
    loop = engine._serving.loop
    place, name = (loop._runtime, "sample") if behind_native else (loop, "_sample")
    steps, sample = 0, getattr(place, name)

    def interrupted(*args: object) -> None:
        nonlocal steps
        steps += 1
        sample(*args)
        if steps in (3, 9):
            raise KeyboardInterrupt

    setattr(place, name, interrupted)
    jobs = [
        engine._serving._job(engine._begin(*each, raw=False), _parameters(), None) for each in made
    ]
    for job in jobs:
        loop.submit(job)
    for torn in (False, True):
        with pytest.raises(KeyboardInterrupt):
            loop.advance(lambda: all(job.ended for job in jobs))
        if torn:
            loop._torn = True
            loop._rebuild()
    loop.advance(lambda: all(job.ended for job in jobs))
    assert [result(job.completion.generation) for job in jobs] == expected


def _parameters() -> object:
    from tonnage.engine.job import RequestParameters

    return RequestParameters()


def test_a_closed_engine_says_so(model: Path) -> None:
    engine = Engine.open(str(model), context=CONTEXT, threads=1)
    begun = iter(engine.generate([1, 2], max_tokens=50, ignore_eos=True))
    next(begun)
    engine.close()
    for reading in (begun, iter(engine.generate([1, 2]))):
        with pytest.raises(RequestError, match="closed"):
            list(reading)
