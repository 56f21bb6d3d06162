"""Answers of a forced form: every draw of a random model has it."""

import json
import re

import anthropic
import openai
import pytest

from support.live_server import NAME, live, write_chat_model
from tonnage.engine.engine import Engine

HI = [{"role": "user", "content": "Hello"}]
SCHEMA = {
    "type": "object",
    "properties": {
        "kind": {"enum": ["red", "blue"]},
        "count": {"type": "integer", "minimum": 0, "maximum": 99},
        "tags": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2},
    },
    "required": ["kind", "count", "tags"],
    "additionalProperties": False,
}
TOOL = {"name": "paint", "description": "", "parameters": SCHEMA}
NOTHING = {"type": "object", "properties": {}, "additionalProperties": False}
OTHER = {"name": "wash", "description": "", "parameters": NOTHING}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = write_chat_model(tmp_path_factory.mktemp("model") / "hf")
    # On a busy machine an answer may take long: what is refused then is refused by its status.
    with (
        Engine.open(str(folder), context=2048, threads=1) as engine,
        live(engine, silence_s=60.0) as server,
    ):
        yield server


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(
        base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60
    ) as client:
        yield client


def check(value: object) -> None:
    assert value.keys() == SCHEMA["properties"].keys()
    assert value["kind"] in ("red", "blue")
    assert isinstance(value["count"], int)
    assert 0 <= value["count"] <= 99
    assert len(value["tags"]) <= 2


def texts(client, form: dict, *, num: int = 8) -> list[str]:
    answer = client.chat.completions.create(
        model=NAME, messages=HI, temperature=3, n=num, seed=1, response_format=form,
        max_tokens=400, extra_body={"min_p": 0, "top_k": 0, "top_p": 1},
    )  # fmt: skip
    assert {choice.finish_reason for choice in answer.choices} == {"stop"}
    return [choice.message.content for choice in answer.choices]


def test_a_schema_is_kept_in_every_draw(client):
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    answers = texts(client, form)
    for text in answers:
        check(json.loads(text))
    assert len(set(answers)) > 1


def test_a_regular_expression_and_a_grammar_are_kept(client):
    for text in texts(client, {"type": "regex", "regex": "[a-c]{3,5}-[0-9]{2}"}):
        assert re.fullmatch("[a-c]{3,5}-[0-9]{2}", text)
    for text in texts(client, {"type": "grammar", "grammar": 'start: ("ab" | "cd")~1..3'}):
        assert re.fullmatch("(ab|cd){1,3}", text)


def test_a_tool_can_be_required(client, server):
    tools = [{"type": "function", "function": tool} for tool in (TOOL, OTHER)]
    named = {"type": "function", "function": {"name": "paint"}}
    for choice in (named, "required"):
        answer = client.chat.completions.create(
            model=NAME, messages=HI, tools=tools, tool_choice=choice, temperature=2, max_tokens=500
        )
        call = answer.choices[0].message.tool_calls[0].function
        if choice == named or call.name == "paint":
            check(json.loads(call.arguments))
    told = {"model": NAME, "max_tokens": 500, "messages": HI}
    tool = {"name": "paint", "input_schema": SCHEMA}
    with anthropic.Anthropic(base_url=server.url, api_key="x", max_retries=0) as claude:
        answer = claude.messages.create(**told, tools=[tool], tool_choice={"type": "any"})
    check(answer.content[0].input)


def test_responses_keep_a_schema(client):
    form = {"type": "json_schema", "name": "x", "schema": SCHEMA}
    answer = client.responses.create(
        model=NAME, input="Hi", text={"format": form}, max_output_tokens=400
    )
    check(json.loads(answer.output_text))


@pytest.mark.parametrize(
    "form",
    [
        {"type": "json_schema"},
        {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}},
        {"type": "json_schema", "json_schema": {"name": "x", "schema": 5}},
        {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": ["x" * 70_000]}}},
        {"type": "regex", "regex": "(["},
        {"type": "regex"},
        {"type": "grammar", "grammar": "start: nowhere"},
    ],
)
def test_a_form_that_is_not_understood_is_a_bad_request(client, form):
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model=NAME, messages=HI, response_format=form)


def test_a_form_that_grows_too_large_is_no_answer_cut_short(client, server):
    grammar = 'start: s{500}\ns: "a" | s s | s s s s'
    form = {"type": "grammar", "grammar": grammar}
    wanted = {"model": NAME, "messages": HI, "response_format": form, "max_tokens": 600}
    with pytest.raises(openai.BadRequestError, match="too much to keep to"):
        client.chat.completions.create(**wanted)
    with pytest.raises(openai.APIError, match="too much to keep to"):
        list(client.chat.completions.create(**wanted, stream=True))
    assert client.chat.completions.create(model=NAME, messages=HI, max_tokens=3).choices
    assert server.service.metrics.in_progress == 0


def test_a_form_that_is_complete_stays_so_behind_its_end(client):
    form, ours = {"type": "regex", "regex": "[ab]{3}"}, {"ignore_eos": True}
    answer = client.chat.completions.create(
        model=NAME, messages=HI, response_format=form, max_tokens=20, extra_body=ours
    )
    assert re.fullmatch("[ab]{3}", answer.choices[0].message.content)
