"""echo with logprobs of /v1/completions, by which evaluation harnesses score choices."""

from collections.abc import Iterator

import openai
import pytest

from support.live_server import NAME, Live, live, write_chat_model
from tonnage.engine.engine import Engine

PROMPTS = [[7, 40, 260, 12, 33], [9] * 70, [3, 5]]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = write_chat_model(tmp_path_factory.mktemp("model") / "hf")
    with Engine.open(str(folder), context=512, threads=1, concurrency=2) as opened:
        yield opened


@pytest.fixture(scope="module")
def server(engine: Engine) -> Iterator[Live]:
    with live(engine) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: Live) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def expected(engine: Engine, prompt: list[int], max_tokens: int) -> list[float | None]:
    """What each token has when it is forced behind those before it, and what is sampled then."""
    values: list[float | None] = [None]
    for end in range(1, len(prompt)):
        one = engine.generate(
            prompt[:end], max_tokens=1, logprobs=0, logit_bias={prompt[end]: 900.0}, raw=True
        ).complete()
        assert one.tokens == [prompt[end]]
        values.append(one.logprobs[0].logprob)
    if max_tokens:
        one = engine.generate(prompt, max_tokens=max_tokens, temperature=0, logprobs=0, raw=True)
        values += [entry.logprob for entry in one.complete().logprobs]
    return values


@pytest.mark.parametrize("max_tokens", [0, 1, 6])
def test_every_token_has_an_entry_whole_and_streamed(
    client: openai.OpenAI, engine: Engine, max_tokens: int
) -> None:
    wanted = {
        "model": NAME,
        "prompt": PROMPTS,
        "max_tokens": max_tokens,
        "temperature": 0,
        "logprobs": 1,
        "echo": True,
    }
    whole = client.completions.create(**wanted)
    streamed: dict[int, tuple[str, list[object], list[object]]] = {
        i: ("", [], []) for i in range(len(PROMPTS))
    }
    for chunk in client.completions.create(**wanted, stream=True):
        for choice in chunk.choices:
            text, values, offsets = streamed[choice.index]
            if choice.logprobs is not None:
                values += choice.logprobs.token_logprobs
                offsets += choice.logprobs.text_offset
            streamed[choice.index] = (text + choice.text, values, offsets)
    for choice, prompt in zip(whole.choices, PROMPTS, strict=True):
        told = choice.logprobs
        values = expected(engine, prompt, max_tokens)
        assert told.token_logprobs == pytest.approx(values, abs=0)
        assert len(told.tokens) == len(told.text_offset) == len(values)
        assert told.top_logprobs[0] is None
        for token, value, top in zip(
            told.tokens[1:], values[1:], told.top_logprobs[1:], strict=True
        ):
            assert max(top.values()) >= value
            assert token in top
        assert streamed[choice.index] == (choice.text, told.token_logprobs, told.text_offset)
    usage = whole.usage
    assert usage.total_tokens == sum(len(c.logprobs.tokens) for c in whole.choices)


def test_the_choice_that_a_harness_makes(client: openai.OpenAI, engine: Engine) -> None:
    """As lm-evaluation-harness does it: the sum over a choice's tokens, without the sampled one."""
    context = [5, 6, 7, 8]
    choices = [[40, 41], [260], [99, 12, 30]]
    scores = []
    for choice in choices:
        answer = client.completions.create(
            model=NAME,
            prompt=[context + choice],
            max_tokens=1,
            temperature=0,
            logprobs=1,
            echo=True,
        )
        scores.append(sum(answer.choices[0].logprobs.token_logprobs[len(context) : -1]))
    right = [sum(expected(engine, context + choice, 0)[len(context) :]) for choice in choices]
    assert scores == pytest.approx(right, abs=0)


def test_without_logprobs_an_echo_is_the_text_alone(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=NAME, prompt="Hello", max_tokens=0, echo=True)
    assert (answer.choices[0].text, answer.choices[0].logprobs) == ("Hello", None)


def test_the_entries_of_one_answer_are_bounded(client: openai.OpenAI) -> None:
    prompt = [[7] * 400] * 10
    with pytest.raises(openai.APIStatusError, match="Log probabilities wait") as caught:
        client.completions.create(model=NAME, prompt=prompt, max_tokens=0, logprobs=20, echo=True)
    assert caught.value.status_code in (400, 503)
