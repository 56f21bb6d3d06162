"""Log probabilities of a prompt's tokens: those that sampling each of them would have had.

What is right comes from another road: the same model is asked for one token behind each beginning
of the prompt, and a bias forces the token that follows.
"""

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from support.checkpoints import matrices, tiny_config, tiny_model, write_gguf
from tonnage.core.sampling import SamplingOptions
from tonnage.engine.engine import Engine
from tonnage.engine.generation import Generation, TokenLogprob
from tonnage.engine.job import RequestParameters

CONTEXT = 256
TOP = 3
SIZES: dict[str, dict[str, object]] = {
    "llama": {}, "gemma3_text": {}, "mistral": {"hidden_size": 128, "sliding_window": 70},
}  # fmt: skip
PROMPT = [(7 * i * i + 3 * i) % 300 for i in range(150)]


@pytest.fixture(scope="module", params=SIZES)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = tiny_config(request.param, max_position_embeddings=1 << 12, **SIZES[request.param])
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    return write_gguf(path, tiny_model(config, seed=1), matrices("Q8_0"))


def opened(model: Path) -> Engine:
    return Engine.open(str(model), context=CONTEXT, threads=1, concurrency=3)


@pytest.fixture(scope="module")
def engine(model: Path) -> Iterator[Engine]:
    with opened(model) as engine:
        yield engine


@pytest.fixture(scope="module")
def forced(engine: Engine) -> list[TokenLogprob]:
    """What each token of PROMPT behind the first has when it is sampled."""
    found = []
    for end in range(1, len(PROMPT)):
        one = engine.generate(
            PROMPT[:end], max_tokens=1, logprobs=TOP, logit_bias={PROMPT[end]: 900.0}, raw=True
        ).complete()
        assert one.tokens == [PROMPT[end]]
        found.append(one.logprobs[0])
    return found


def scored(engine: Engine, prompt: list[int], **more: object) -> Generation:
    options = SamplingOptions(max_tokens=0, temperature=0, prompt_logprobs=TOP)
    return engine.generate(prompt, options, raw=True, **more).complete()


def test_every_token_of_a_prompt_has_its_own(engine: Engine, forced: list[TokenLogprob]) -> None:
    # The whole prompt is in the prefix tree by now; its rows must not be missing.
    first = scored(engine, PROMPT)
    assert first.prompt_logprobs == forced
    assert first.num_cached_tokens == 0
    assert first.tokens == []
    assert scored(engine, PROMPT[:1]).prompt_logprobs == []
    assert scored(engine, PROMPT[:2]).prompt_logprobs == forced[:1]


def test_the_completion_behind_is_as_without(engine: Engine, forced: list[TokenLogprob]) -> None:
    wanted = {"max_tokens": 8, "temperature": 0.9, "seed": 5, "logprobs": 2, "raw": True}
    plain = engine.generate(PROMPT, **wanted).complete()
    both = engine.generate(PROMPT, **wanted, prompt_logprobs=TOP).complete()
    assert both.prompt_logprobs == forced
    assert (both.tokens, both.logprobs) == (plain.tokens, plain.logprobs)
    # And what it left behind serves others.
    again = engine.generate(PROMPT, **wanted).complete()
    assert again.num_cached_tokens >= 128
    assert again.tokens == plain.tokens


def test_several_at_once_beside_completions(engine: Engine, forced: list[TokenLogprob]) -> None:
    options = [
        SamplingOptions(max_tokens=20 if i % 2 else 0, temperature=0, ignore_eos=True,
                        prompt_logprobs=None if i % 2 else TOP)
        for i in range(7)
    ]  # fmt: skip
    prompts = [PROMPT[: 150 - 9 * i] for i in range(7)]
    together = engine.generate_batch(prompts, options, raw=True)
    for index, one in enumerate(together):
        if index % 2:
            alone = engine.generate(prompts[index], options[index], raw=True).complete()
            assert one.tokens == alone.tokens
            assert one.prompt_logprobs == []
        else:
            assert one.prompt_logprobs == forced[: len(prompts[index]) - 1]


def test_a_stream_hands_them_out_before_the_completion(
    engine: Engine, forced: list[TokenLogprob]
) -> None:
    async def read() -> tuple[list[TokenLogprob], list[int], int]:
        entries: list[TokenLogprob] = []
        tokens: list[int] = []
        stream = engine.stream(
            PROMPT, raw=True, max_tokens=4, temperature=0, ignore_eos=True, prompt_logprobs=TOP
        )
        async with aclosing(stream):
            async for delta in stream:
                assert not (tokens and delta.prompt_logprobs)
                entries += delta.prompt_logprobs
                tokens += delta.tokens
                stream.generation.drop_logprobs()
        return entries, tokens, len(stream.generation.prompt_logprobs)

    entries, tokens, num_held = asyncio.run(read())
    assert entries == forced
    assert (len(tokens), num_held) == (4, 0)


def test_an_interrupted_step_loses_and_doubles_nothing(
    model: Path, forced: list[TokenLogprob], monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(model) as engine:  # no thread drives it
        sample, calls = engine.runtime.sample, 0

        def interrupted(rows: object, made: object) -> None:
            nonlocal calls
            calls += 1
            if calls % 5 == 0:
                raise KeyboardInterrupt
            sample(rows, made)  # type: ignore[arg-type]

        loop = engine._serving.loop
        monkeypatch.setattr(loop._runtime, "sample", interrupted)
        options = SamplingOptions(max_tokens=0, temperature=0, prompt_logprobs=TOP)
        generation = engine.generate(PROMPT, options, raw=True)
        job = engine._serving._job(generation, RequestParameters(), None)
        loop.submit(job)
        num_interrupts = 0
        while not job.ended:
            try:
                loop.advance(lambda: job.ended)
            except KeyboardInterrupt:
                num_interrupts += 1
        assert job.failure is None
        assert num_interrupts > 5
        assert generation.prompt_logprobs == forced
