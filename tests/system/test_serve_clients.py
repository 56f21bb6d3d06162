"""The official clients of OpenAI and Anthropic against a live server with a tiny model."""

import json

import anthropic
import openai
import pytest

from support.live_server import (
    FAILURES,
    NAME,
    TOOL_TEMPLATE,
    Live,
    ScriptedEngine,
    live,
    write_chat_model,
)
from tonnage.engine.engine import Engine
from tonnage.server.models.tenants import read_tenants

HI = [{"role": "user", "content": "Hello"}]
GREEDY = {"model": NAME, "temperature": 0}
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tell the weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
CALL = (
    "I look.\n",
    '<tool_call>\n{"name": "weather", ',
    '"arguments": {"city": "Bern"}}\n</tool_call>',
)


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    folder = write_chat_model(tmp_path_factory.mktemp("model") / "hf", TOOL_TEMPLATE)
    with Engine.open(str(folder), context=512, threads=1) as engine:
        yield engine


@pytest.fixture(scope="module")
def server(engine) -> Live:
    with live(engine) as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    with openai_client(server) as client:
        yield client


@pytest.fixture(scope="module")
def claude(server):
    with anthropic_client(server) as client:
        yield client


def openai_client(server: Live, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)


def anthropic_client(server: Live, key: str = "none") -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=server.url, api_key=key, max_retries=0)


def test_models_are_listed(client):
    assert [model.id for model in client.models.list()] == [NAME]
    assert client.models.retrieve(NAME).id == NAME
    with pytest.raises(openai.NotFoundError, match="There is no model 'other'"):
        client.models.retrieve("other")


def test_a_chat_gives_what_the_engine_gives(client, engine):
    answer = client.chat.completions.create(**GREEDY, messages=HI, max_tokens=8)
    alone = engine.generate(HI, temperature=0, max_tokens=8).complete()
    assert answer.choices[0].message.content == alone.text
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.prompt_tokens == len(alone.prompt)
    assert (answer.usage.completion_tokens, answer.usage.total_tokens) == (
        8,
        len(alone.prompt) + 8,
    )


def test_a_stream_joins_to_the_whole(client):
    whole = client.chat.completions.create(**GREEDY, messages=HI, max_tokens=40)
    chunks = list(
        client.chat.completions.create(
            **GREEDY,
            messages=HI,
            max_tokens=40,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    texts = [c.choices[0].delta.content or "" for c in chunks if c.choices]
    assert "".join(texts) == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].usage.completion_tokens == 40
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_stop_string_ends_the_answer(client):
    whole = client.chat.completions.create(**GREEDY, messages=HI, max_tokens=30)
    text = whole.choices[0].message.content
    stop = text[3:6]
    cut = client.chat.completions.create(**GREEDY, messages=HI, max_tokens=30, stop=[stop])
    assert cut.choices[0].message.content == text[: text.index(stop)]
    assert cut.choices[0].finish_reason == "stop"


def test_a_seed_draws_the_same_and_choices_differ(client):
    wanted = {"model": NAME, "messages": HI, "max_tokens": 12, "temperature": 2, "seed": 5, "n": 3}
    first, second = (client.chat.completions.create(**wanted) for _ in range(2))
    texts = [choice.message.content for choice in first.choices]
    assert texts == [choice.message.content for choice in second.choices]
    assert len(set(texts)) == 3
    streamed = ["", "", ""]
    for chunk in client.chat.completions.create(**wanted, stream=True):
        for choice in chunk.choices:
            streamed[choice.index] += choice.delta.content or ""
    assert streamed == texts


def test_log_probabilities_come_whole_and_in_a_stream(client):
    wanted = {**GREEDY, "messages": HI, "max_tokens": 6, "logprobs": True, "top_logprobs": 2}
    whole = client.chat.completions.create(**wanted).choices[0].logprobs.content
    assert len(whole) == 6
    assert all(len(one.top_logprobs) == 2 for one in whole)
    assert all(one.logprob == one.top_logprobs[0].logprob for one in whole)  # greedy
    streamed = [
        one.logprob
        for chunk in client.chat.completions.create(**wanted, stream=True)
        for choice in chunk.choices
        if choice.logprobs
        for one in choice.logprobs.content
    ]
    assert streamed == [one.logprob for one in whole]


def test_a_bias_forces_a_token(client):
    forced = client.chat.completions.create(
        **GREEDY, messages=HI, max_tokens=3, logit_bias={"65": 100}
    )
    assert forced.choices[0].message.content == "AAA"
    with pytest.raises(openai.BadRequestError, match="token ids"):
        client.chat.completions.create(**GREEDY, messages=HI, logit_bias={"x": 1})


def test_completions_take_texts_and_tokens(client, engine):
    alone = engine.generate("the", raw=True, temperature=0, max_tokens=5).complete()
    ids = alone.prompt
    answer = client.completions.create(**GREEDY, prompt=["the", "a"], max_tokens=5, echo=True)
    assert answer.choices[0].text == "the" + alone.text
    assert answer.choices[1].text.startswith("a")
    by_ids = client.completions.create(**GREEDY, prompt=ids, max_tokens=5, logprobs=1)
    assert by_ids.choices[0].text == alone.text
    told = by_ids.choices[0].logprobs
    assert len(told.tokens) == len(told.token_logprobs) == len(told.text_offset) == 5
    chunks = client.completions.create(**GREEDY, prompt="the", max_tokens=5, stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks) == alone.text


def test_a_prompt_beyond_the_context_is_refused_with_both_numbers(client):
    long = [{"role": "user", "content": "x" * 1000}]
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**GREEDY, messages=long)
    assert caught.value.code == "context_length_exceeded"
    assert "512" in caught.value.message
    assert "1,0" in caught.value.message


def test_the_middle_is_dropped_on_request_and_told(client):
    long = [{"role": "user", "content": "x" * 1000}]
    raw = client.chat.completions.with_raw_response.create(
        **GREEDY, messages=long, max_tokens=20, extra_body={"truncation": "middle"}
    )
    usage = raw.parse().usage
    dropped = usage.prompt_tokens_details.dropped_tokens
    assert usage.prompt_tokens == 512 - 20
    assert dropped > 500
    assert raw.headers["x-tonnage-dropped-tokens"] == str(dropped)


def test_every_interface_drops_the_middle_on_request_and_tells(client, claude):
    long, asked = "x" * 1000, {"truncation": "middle"}
    turns = [{"role": "user", "content": long}]
    wanted = {"model": NAME, "messages": turns, "max_tokens": 20}
    with pytest.raises(anthropic.BadRequestError, match="512"):
        claude.messages.create(**wanted)
    raw = claude.messages.with_raw_response.create(**wanted, extra_body=asked)
    told = raw.parse().usage
    assert told.input_tokens + told.cache_read_input_tokens == 512 - 20
    assert raw.headers["x-tonnage-dropped-tokens"] == str(told.dropped_tokens)
    answer = client.responses.create(
        model=NAME, input=long, max_output_tokens=20, truncation="auto"
    )
    assert answer.usage.input_tokens_details.dropped_tokens == told.dropped_tokens
    texts = client.completions.with_raw_response.create(
        model=NAME, prompt=["short", long], max_tokens=20, extra_body=asked
    )
    dropped = texts.parse().usage.prompt_tokens_details.dropped_tokens
    assert texts.headers["x-tonnage-dropped-tokens"] == str(dropped)
    assert dropped > 500


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"temperature": "hot"}, "temperature"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages"),
        ({"messages": []}, "messages"),
        ({"n": 1000}, "n"),
        ({"stop": [""]}, None),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "messages",
        ),
        ({"tools": [TOOL] * 200}, "tools"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
    ],
)
def test_a_wrong_request_is_a_bad_request_error(client, change, param):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**{**GREEDY, "messages": HI, **change})
    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"


def test_responses_whole_and_streamed(client):
    whole = client.responses.create(model=NAME, input="Hello", temperature=0, max_output_tokens=9)
    assert whole.status == "incomplete"
    assert whole.usage.output_tokens == 9
    with client.responses.stream(
        model=NAME, input="Hello", temperature=0, max_output_tokens=9
    ) as stream:
        deltas = [e.delta for e in stream if e.type == "response.output_text.delta"]
    assert "".join(deltas) == whole.output_text
    with pytest.raises(openai.BadRequestError, match="previous_response_id"):
        client.responses.create(model=NAME, input="x", previous_response_id="resp_1")


def test_messages_whole_and_streamed(claude):
    wanted = {"model": NAME, "messages": HI, "max_tokens": 9, "system": "Be brief"}
    wanted["extra_body"] = {"top_k": 1}
    whole = claude.messages.create(**wanted)
    assert whole.stop_reason == "max_tokens"
    assert whole.usage.output_tokens == 9
    with claude.messages.stream(**wanted) as stream:
        assert "".join(stream.text_stream) == whole.content[0].text
        assert stream.get_final_message().usage.output_tokens == 9
    count = claude.messages.count_tokens(model=NAME, messages=HI, system="Be brief")
    told = whole.usage
    assert count.input_tokens == told.input_tokens + told.cache_read_input_tokens
    with pytest.raises(anthropic.NotFoundError):
        claude.messages.create(**{**wanted, "model": "other"})


def test_messages_tell_which_sequence_stopped_them(claude):
    wanted = {"model": NAME, "messages": HI, "max_tokens": 30, "extra_body": {"top_k": 1}}
    text = claude.messages.create(**wanted).content[0].text
    stop = text[4:7]
    wanted["stop_sequences"] = ["never \N{SNOWMAN} said", stop]
    whole = claude.messages.create(**wanted)
    assert (whole.stop_reason, whole.stop_sequence) == ("stop_sequence", stop)
    assert whole.content[0].text == text[: text.index(stop)]
    with claude.messages.stream(**wanted) as stream:
        final = stream.get_final_message()
    assert (final.stop_reason, final.stop_sequence) == ("stop_sequence", stop)
    assert final.content[0].text == whole.content[0].text


def test_messages_that_end_by_themselves_name_no_sequence(claude):
    wanted = {"model": NAME, "messages": HI, "max_tokens": 5, "stop_sequences": ["\N{SNOWMAN}"]}
    whole = claude.messages.create(**wanted, extra_body={"top_k": 1})
    assert (whole.stop_reason, whole.stop_sequence) == ("max_tokens", None)


def scripted(engine, pieces, **more):
    return live(engine, ScriptedEngine(pieces, **more))


def test_tool_calls_whole_streamed_and_sent_back(engine):
    answers = ScriptedEngine(CALL)
    with live(engine, answers) as server, openai_client(server) as client:
        wanted = {"model": NAME, "messages": HI, "tools": [TOOL]}
        answer = client.chat.completions.create(**wanted)
        message = answer.choices[0].message
        assert answer.choices[0].finish_reason == "tool_calls"
        assert message.content == "I look."
        assert json.loads(message.tool_calls[0].function.arguments) == {"city": "Bern"}
        with client.chat.completions.stream(**wanted) as stream:
            final = stream.get_final_completion().choices[0]
        assert final.message.tool_calls[0].function.name == "weather"
        assert final.finish_reason == "tool_calls"
        result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "sunny"}
        client.chat.completions.create(
            **{**wanted, "messages": [*HI, message.to_dict(), result]}, tool_choice="none"
        )
        prompts = [engine.tokenizer.decode(asked[0]) for asked in answers.asked]
        assert '[tools][{"type": "function"' in prompts[0]
        assert prompts[-1].startswith("[user]Hello[assistant]I look.[tool]sunny")


def test_tool_calls_of_the_other_interfaces(engine):
    with scripted(engine, CALL) as server:
        with openai_client(server) as client:
            tool = {"type": "function", **TOOL["function"]}
            answer = client.responses.create(model=NAME, input="Hi", tools=[tool])
            call = answer.output[-1]
            assert (call.type, call.name) == ("function_call", "weather")
            back = [
                {"role": "user", "content": "Hi"},
                call.to_dict(),
                {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"},
            ]
            client.responses.create(model=NAME, input=back)
            with client.responses.stream(model=NAME, input="Hi", tools=[tool]) as stream:
                assert stream.get_final_response().output[-1].name == "weather"
        with anthropic_client(server) as claude:
            tool = {"name": "weather", "input_schema": TOOL["function"]["parameters"]}
            wanted = {"model": NAME, "max_tokens": 99, "tools": [tool]}
            whole = claude.messages.create(**wanted, messages=HI)
            assert whole.stop_reason == "tool_use"
            assert whole.content[-1].input == {"city": "Bern"}
            with claude.messages.stream(**wanted, messages=HI) as stream:
                final = stream.get_final_message()
            assert [block.type for block in final.content] == ["text", "tool_use"]
            assert final.content[-1].input == {"city": "Bern"}
            result = {"type": "tool_result", "tool_use_id": whole.content[-1].id, "content": "dry"}
            turns = [*HI, {"role": "assistant", "content": whole.content}]
            claude.messages.create(
                **wanted, messages=[*turns, {"role": "user", "content": [result]}]
            )


@pytest.mark.parametrize(("make_error", "status"), FAILURES)
def test_what_the_engine_refuses(engine, make_error, status, log_lines):
    with scripted(engine, (), error=make_error()) as server:
        for stream in (False, True):
            with openai_client(server) as client, pytest.raises(openai.APIStatusError) as caught:
                client.chat.completions.create(**GREEDY, messages=HI, stream=stream)
            assert caught.value.status_code == status
            assert "secret" not in caught.value.message
        if status == 429:
            assert caught.value.response.headers["retry-after"] == "3"
        with anthropic_client(server) as claude, pytest.raises(anthropic.APIStatusError) as other:
            claude.messages.create(model=NAME, messages=HI, max_tokens=5)
        assert other.value.status_code == status
    lines = log_lines()
    assert "secret" not in json.dumps(lines)
    assert any(one["level"] in ("warning", "error") for one in lines) is (status >= 500)


def test_keys_are_tenants(engine, tmp_path):
    keys = tmp_path / "keys.toml"
    keys.write_text(
        '[tenant.joe]\nkey = "joe-0123456789abcdef"\nrequests_per_minute = 2\n'
        '[tenant.amy]\nkey = "amy-0123456789abcdef"\n'
    )
    answers = ScriptedEngine()
    with live(engine, answers, tenants=read_tenants(keys, None)) as server:
        with openai_client(server, "guess-0123456789ab") as client:
            for call in (
                client.models.list,
                lambda: client.completions.create(model="x", prompt="x"),
            ):
                with pytest.raises(openai.AuthenticationError):
                    call()
        with anthropic_client(server, "amy-0123456789abcdef") as claude:
            claude.messages.create(model=NAME, messages=HI, max_tokens=5)
        with openai_client(server, "joe-0123456789abcdef") as client:
            for _ in range(2):
                client.chat.completions.create(
                    model=NAME, messages=HI, extra_body={"cache_salt": "s"}
                )
            with pytest.raises(openai.RateLimitError, match="2 requests per minute"):
                client.chat.completions.create(model=NAME, messages=HI)
    orders = [asked[2] for asked in answers.asked]
    assert [order["tenant"] for order in orders] == ["amy", "joe", "joe"]
    amy, joe = orders[0]["cache_salt"], orders[1]["cache_salt"]
    assert amy
    assert joe.endswith("/s")
    assert not joe.startswith(amy)
