"""Texts to vectors through an engine: those of the reference transformer, whatever else runs."""

import asyncio
import random
from contextlib import aclosing
from pathlib import Path

import numpy as np
import pytest

from oracles.rounding import allowed_share, rms, rounded_forward, scatter
from oracles.transformer import last_hidden_state
from support.checkpoints import FAMILIES, matrices, tiny_config, tiny_model, write_gguf
from support.containers import read_gguf, weights_of
from support.described import coded_matrices, described
from support.models import real_model
from support.tiny_families import WIDE
from tonnage.core.errors import (
    ContextLengthError,
    DeadlineError,
    LogitsError,
    OverloadError,
    RequestError,
)
from tonnage.core.pooling import POOLINGS
from tonnage.engine.build import ServingOptions
from tonnage.engine.engine import Engine
from tonnage.engine.job import RequestParameters
from tonnage.models.registry import spec_from_gguf
from tonnage.scheduler.scheduler import Scheduler

CONTEXT = 320
NUM_TOKENS = 40
QUANTIZED = (("qwen3", "Q8_0"), ("gemma2", "Q8_0"))


def write_model(folder: Path, family: str, kind: str, **changes: object) -> Path:
    config = tiny_config(
        family, **{**WIDE.get(family, {}), "max_position_embeddings": 1 << 12, **changes}
    )
    return write_gguf(folder / "tiny.gguf", tiny_model(config, seed=1), matrices(kind))


@pytest.fixture(scope="module", params=["llama", "gemma3_text"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Layers that see everything; some with a window, and post norms."""
    return write_model(tmp_path_factory.mktemp("model"), request.param, "Q8_0")


def texts(count: int, seed: int, longest: int = CONTEXT) -> list[list[int]]:
    """Return token ids of mixed length, half of them with a common beginning."""
    rng = random.Random(seed)
    shared = [rng.randrange(300) for _ in range(150)]
    made = []
    for index in range(count):
        ids = shared[: rng.choice((0, 64, 100, 150))] if index % 2 else []
        ids = [*ids, *(rng.randrange(300) for _ in range(rng.randrange(1, 120)))]
        made.append(ids[:longest])
    return made


def vectors(engine: Engine, prompts: list[list[int]], **options: object) -> list[bytes]:
    return [one.vector.tobytes() for one in engine.embed(prompts, **options)]


def alone(path: Path, prompts: list[list[int]], **options: object) -> list[bytes]:
    """Return the vectors that an engine gives which reads one text after the other, in one step."""
    with Engine.open(str(path), context=CONTEXT, threads=1) as engine:
        return [vectors(engine, [prompt], **options)[0] for prompt in prompts]


def states(engine: Engine, tokens: list[int]) -> np.ndarray:
    """Return the hidden state of every position, the last ones of all beginnings."""
    parts = [tokens[: end + 1] for end in range(len(tokens))]
    found = engine.embed(parts, pooling="last", normalize=False)
    assert [one.num_tokens for one in found] == list(range(1, len(tokens) + 1))
    return np.array([one.vector for one in found], np.float32)


@pytest.mark.parametrize(
    ("family", "kind"), [*((family, "F32") for family in FAMILIES), *QUANTIZED]
)
def test_hidden_states_are_those_of_the_twin(family: str, kind: str, tmp_path: Path) -> None:
    assert_parity(write_model(tmp_path, family, kind, num_hidden_layers=2))


@pytest.mark.slow
def test_hidden_states_of_a_real_model() -> None:
    assert_parity(real_model())


def assert_parity(path: Path) -> None:
    """Assert that hidden states differ from the rounded reference's by float32 arithmetic alone."""
    spec = spec_from_gguf(*read_gguf(path))
    tokens = np.random.default_rng(5).integers(0, spec.vocab_size, NUM_TOKENS).tolist()
    with Engine.open(str(path), context=64, threads=2, concurrency=4) as engine:
        held = {matrix.name: matrix.format for matrix in engine.plan.matrices}
        kv_format = engine.plan.kv.format
        ours = states(engine, tokens)
        mean = engine.embed(tokens, pooling="mean", normalize=False)[0].vector
        unit = np.array(engine.embed(tokens, pooling="mean")[0].vector)
        cut = np.array(engine.embed(tokens, pooling="mean", dimensions=32)[0].vector)
    model, coded, tensor = described(spec), coded_matrices(spec, held), weights_of(spec)
    rounded = rounded_forward(model, tensor, coded, tokens, kv_format, last_hidden_state)
    exact = last_hidden_state(model, tensor, tokens)
    has_codes = kv_format == "int8" or bool(coded)
    deliberate = rms(rounded - exact)
    share = rms(ours - rounded) / deliberate
    assert share < allowed_share(model, NUM_TOKENS, has_codes)
    assert rms(ours - exact) < (1 + scatter(NUM_TOKENS)) * deliberate
    # The mean is that of the very same states, added in their order.
    total = np.zeros(spec.d_model)
    for state in ours:
        total += state
    assert np.array(mean, np.float32).tobytes() == (total / NUM_TOKENS).astype("f4").tobytes()
    eps = float(np.finfo(np.float32).eps)
    np.testing.assert_allclose(unit, total / np.linalg.norm(total), rtol=eps)
    np.testing.assert_allclose(cut, total[:32] / np.linalg.norm(total[:32]), rtol=eps)


@pytest.mark.parametrize("pooling", ["mean", "last"])
@pytest.mark.parametrize("kv_format", ["f16", "int8"])
def test_company_chunks_and_threads_change_no_bit(
    model: Path, pooling: str, kv_format: str
) -> None:
    prompts = [*texts(24, seed=3), [7] * CONTEXT]
    with Engine.open(str(model), context=CONTEXT, threads=1, kv_format=kv_format) as engine:
        expected = [vectors(engine, [prompt], pooling=pooling)[0] for prompt in prompts]
    with Engine.open(
        str(model),
        context=CONTEXT,
        threads=2,
        concurrency=5,
        max_batch_tokens=48,
        kv_format=kv_format,
    ) as engine:
        loop, rng = engine._serving.loop, random.Random(4)
        loop.before_step = lambda now_ns: disturb(loop.scheduler, rng)
        assert vectors(engine, prompts, pooling=pooling) == expected
        assert loop.scheduler.pressure.counts["preempt"] > 3
        assert used_pages(engine) == 0


def disturb(scheduler: Scheduler, rng: random.Random) -> None:
    """Preempt somebody now and then, whoever it is, and let chunks be of any size."""
    if scheduler.num_running > 1 and rng.random() < 0.1:
        scheduler.pressure.preempt(rng.choice(scheduler._running))


def used_pages(engine: Engine) -> int:
    scheduler = engine._serving.loop.scheduler
    assert scheduler.num_waiting == 0
    return sum(pool.num_used for pool in scheduler.cache.pools)


def test_beside_answers_both_are_what_they_are_alone(model: Path) -> None:
    prompts, asked = texts(12, seed=5), texts(4, seed=6, longest=200)
    expected = alone(model, prompts, pooling="mean")
    options = {"max_tokens": 30, "ignore_eos": True, "temperature": 0}
    with Engine.open(str(model), context=CONTEXT, threads=1) as engine:
        answers = [engine.generate(one, **options).complete().tokens for one in asked]
    with Engine.open(str(model), context=CONTEXT, threads=2, concurrency=3) as engine:

        async def embed(tenant: str) -> list[bytes]:
            stream = engine.embed_stream(prompts, pooling="mean", tenant=tenant)
            return [one.vector.tobytes() async for one in stream]

        async def answer(prompt: list[int]) -> list[int]:
            stream = engine.stream(prompt, tenant="c", **options)
            return [token async for piece in stream for token in piece.tokens]

        async def both() -> list[list[object]]:
            return await asyncio.gather(embed("a"), embed("b"), *map(answer, asked))

        first, second, *told = asyncio.run(both())
        assert first == second == expected
        assert told == answers
        assert used_pages(engine) == 0


def test_the_head_is_not_read(model: Path) -> None:
    with Engine.open(str(model), context=CONTEXT, threads=1) as engine:
        step, wanted = engine.runtime.step, []

        def noted(tokens: object, spans: object, logit_rows: list[int], pooled: object) -> None:
            wanted.append(logit_rows)
            step(tokens, spans, logit_rows, pooled)  # type: ignore[arg-type]

        engine.runtime.step = noted  # type: ignore[method-assign]
        for pooling in POOLINGS:
            engine.embed([[5] * 200, [6]], pooling=pooling)
        # A product with no rows to multiply reads nothing.
        assert wanted
        assert not any(wanted)


def test_texts_are_plain_text_and_counted(model: Path) -> None:
    with Engine.open(str(model), context=CONTEXT, threads=1) as engine:
        tokenizer = engine.tokenizer
        text = "Hello <|end|> there"
        ids = tokenizer.encode(text, add_special=True, parse_special=False)
        by_text, by_list, by_ids, by_many = (
            engine.embed(one)[0] for one in (text, [text], ids, [ids])
        )
        assert by_text == by_list == by_ids == by_many
        assert by_text.num_tokens == len(ids)


def test_what_cannot_be_embedded_is_refused(model: Path) -> None:
    with Engine.open(str(model), context=CONTEXT, threads=1) as engine:
        assert engine.embed([[1] * CONTEXT])[0].num_tokens == CONTEXT
        with pytest.raises(ContextLengthError, match=r"1 has 321 tokens and the context.*320"):
            engine.embed([[1], [1] * (CONTEXT + 1)])
        wide = engine.plan.d_model
        for inputs, options, words in (
            ([], {}, "nothing to embed"),
            ("", {}, "Input 0 is empty"),
            (["a", ""], {}, "Input 1 is empty"),
            ([[1], []], {}, "Input 1 is empty"),
            ([1, "a"], {}, "mix token ids with texts"),
            ([[1, 10**20]], {}, "token id 100000000000000000000 is not in the vocabulary"),
            ([-1], {}, "token id -1"),
            ("a", {"dimensions": 0}, "0 dimensions were asked for"),
            ("a", {"dimensions": wide + 1}, f"{wide + 1} dimensions.*has {wide}"),
            ("a", {"pooling": "cls"}, "pooling is 'cls'"),
        ):
            with pytest.raises(RequestError, match=words):
                engine.embed(inputs, **options)
        assert used_pages(engine) == 0


def test_numbers_that_overflow_are_an_error(tmp_path: Path) -> None:
    path = write_model(tmp_path, "llama", "F32")
    norm = spec_from_gguf(*read_gguf(path)).weights["final_norm"]
    data = bytearray(path.read_bytes())
    data[norm.offset : norm.offset + 4] = np.float32(np.inf).tobytes()
    path.write_bytes(data)
    with (
        Engine.open(str(path), context=CONTEXT, threads=1) as engine,
        pytest.raises(LogitsError, match="not finite"),
    ):
        engine.embed([1, 2, 3])


def test_closing_a_stream_frees_its_pages(model: Path) -> None:
    with Engine.open(str(model), context=CONTEXT, threads=1, concurrency=2) as engine:

        async def close_early() -> None:
            stream = engine.embed_stream(texts(30, seed=1))
            async with aclosing(stream):
                async for _ in stream:
                    break
            assert used_pages(engine) == 0
            never = engine.embed_stream(texts(3, seed=1))
            await never.aclose()
            assert not engine._serving.loop._jobs

        async def drop() -> None:
            stream = engine.embed_stream(texts(30, seed=1))
            await anext(stream)
            del stream
            answer = engine.stream([1, 2], max_tokens=3, ignore_eos=True)
            assert [token async for piece in answer for token in piece.tokens]

        asyncio.run(close_early())
        asyncio.run(drop())
        assert used_pages(engine) == 0


def test_a_full_queue_refuses_a_whole_request_or_none_of_it(model: Path) -> None:
    options = ServingOptions(max_waiting=1)
    with Engine.open(str(model), context=CONTEXT, threads=1, serving=options) as engine:
        prompts = texts(12, seed=2)

        async def one() -> int:
            return len([one async for one in engine.embed_stream(prompts)])

        async def overload() -> list[object]:
            return await asyncio.gather(*(one() for _ in range(6)), return_exceptions=True)

        outcomes = asyncio.run(overload())
        refused = [one for one in outcomes if isinstance(one, OverloadError)]
        assert refused
        assert outcomes.count(12) == 6 - len(refused) >= 1
        assert all(one.retry_after_s is not None for one in refused)
        assert used_pages(engine) == 0


def test_a_deadline_ends_what_is_left(model: Path) -> None:
    with Engine.open(str(model), context=CONTEXT, threads=1) as engine:

        async def late() -> None:
            with pytest.raises(DeadlineError):
                async for _ in engine.embed_stream(texts(3, seed=2), deadline_s=0):
                    pass

        asyncio.run(late())
        assert used_pages(engine) == 0


def test_an_interrupted_step_is_not_added_twice(model: Path) -> None:
    prompts = [[3] * 200, [4] * 150]
    expected = alone(model, prompts, pooling="mean", normalize=False)
    with Engine.open(
        str(model), context=CONTEXT, threads=1, concurrency=2, max_batch_tokens=48
    ) as engine:
        step, count = engine.runtime.step, 0

        def interrupted(*args: object) -> None:
            nonlocal count
            step(*args)
            count += 1
            if count in (2, 5):
                raise KeyboardInterrupt

        engine.runtime.step = interrupted  # type: ignore[method-assign]
        jobs = [engine._serving.pool_job(one, "mean", RequestParameters()) for one in prompts]
        engine._serving.loop.submit(*jobs)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                engine._serving.loop.advance(lambda: all(job.ended for job in jobs))
        engine._serving.loop.advance(lambda: all(job.ended for job in jobs))
    sums = [np.frombuffer(job.sums) / len(job.prompt) for job in jobs]
    assert [one.astype(np.float32).tobytes() for one in sums] == expected
