"""Every shape in which clients ask for an answer of a form, and every spelling of tool_choice."""

import msgspec
import pytest

from tonnage.server.anthropic.messages import _format, _tool_use
from tonnage.server.anthropic.schema import MessageRequest
from tonnage.server.generation.tool_use import ToolChoice, tool_use
from tonnage.server.http.decoding import decode
from tonnage.server.http.failures import HttpError
from tonnage.server.openai.forms import form_of
from tonnage.server.openai.response_schema import ResponseRequest
from tonnage.server.openai.schema import ChatRequest, Function
from tonnage.server.openai.tool_choice import choice_of

SCHEMA = {"type": "object", "properties": {"a": {"type": "boolean"}}}
CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
ANY = {"type": "object"}


def asked(kind: str, **more: object) -> dict[str, object]:
    """Return a request's response_format."""
    return {"response_format": {"type": kind, **more}}


SHAPES = {
    "OpenAI": (asked("json_schema", json_schema={"name": "x", "schema": SCHEMA}), "schema", SCHEMA),
    "no name": (asked("json_schema", json_schema={"schema": SCHEMA}), "schema", SCHEMA),
    "at the top": (asked("json_schema", schema=SCHEMA), "schema", SCHEMA),
    "the schema itself": (asked("json_schema", json_schema=SCHEMA), "schema", SCHEMA),
    "json_object": (asked("json_object"), "schema", ANY),
    "json_object with a schema": (asked("json_object", schema=SCHEMA), "schema", SCHEMA),
    "schema true": (asked("json_schema", schema=True), "schema", True),
    "regex": (asked("regex", regex="a+"), "regex", "a+"),
    "grammar": (asked("grammar", grammar='start: "a"'), "lark", 'start: "a"'),
    "guided_json": ({"guided_json": SCHEMA}, "schema", SCHEMA),
    "guided_json as text": ({"guided_json": '{"type": "null"}'}, "schema", {"type": "null"}),
    "guided_regex": ({"guided_regex": "a+"}, "regex", "a+"),
    "guided_choice": ({"guided_choice": ["yes", "no"]}, "choice", ["yes", "no"]),
    "guided_grammar": ({"guided_grammar": 'root ::= "a"'}, "lark", 'root ::= "a"'),
    "vLLM since 0.11": ({"structured_outputs": {"choice": ["yes"]}}, "choice", ["yes"]),
    "any object": ({"structured_outputs": {"json_object": True}}, "schema", ANY),
    "llama.cpp": ({"grammar": 'root ::= "a"'}, "lark", 'root ::= "a"'),
    "llama.cpp's schema": ({"json_schema": SCHEMA}, "schema", SCHEMA),
    "SGLang": ({"regex": "a+"}, "regex", "a+"),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_each_shape_asks_for_the_same(name):
    fields, kind, value = SHAPES[name]
    request = msgspec.convert({**CHAT, **fields}, ChatRequest)
    form = form_of(request, request.response_format)
    assert (form.kind, form.value) == (kind, value)


def test_text_is_free_where_nothing_is_asked_for():
    for fields in ({}, {"response_format": {"type": "text"}}, {"response_format": None}):
        request = msgspec.convert({**CHAT, **fields}, ChatRequest)
        assert form_of(request, request.response_format) is None


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"response_format": {"type": "json_schema"}}, "response_format .* needs a schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "needs a sch"),
        ({"response_format": {"type": "regex"}}, "needs regex"),
        ({"guided_json": "{"}, "guided_json is no JSON"),
        ({"guided_regex": "a", "guided_choice": ["a"]}, "guided_regex and guided_choice"),
        ({"guided_regex": "a", "response_format": {"type": "json_object"}}, "response_format and"),
    ],
)
def test_what_is_broken_or_asked_for_twice_is_refused_by_name(fields, words):
    request = msgspec.convert({**CHAT, **fields}, ChatRequest)
    with pytest.raises(HttpError, match=words) as caught:
        form_of(request, request.response_format)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "fields",
    [
        {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
        {"output_format": {"type": "json_schema", "schema": SCHEMA}},
        {"guided_json": SCHEMA},
    ],
)
def test_messages_are_bound_too(fields):
    request = msgspec.convert({**CHAT, "max_tokens": 5, **fields}, MessageRequest)
    form = form_of(request, _format(request))
    assert (form.kind, form.value) == ("schema", SCHEMA)


F, G = Function("f"), Function("g")


class UNTAUGHT:
    """A tokenizer whose template knows no calls."""

    chat_template = tool_template = None


NAMED = ToolChoice("required", ["f"], is_single=True)
ALLOWED = ToolChoice("required", ["f"])
CHOICES = [
    (None, ToolChoice()),
    ("auto", ToolChoice()),
    ("none", ToolChoice("none")),
    ("required", ToolChoice("required")),
    ("any", ToolChoice("required")),
    ({"type": "auto"}, ToolChoice()),
    ({"type": "none"}, ToolChoice("none")),
    ({"type": "any"}, ToolChoice("required")),
    ({"type": "function", "function": {"name": "f"}}, NAMED),
    ({"type": "function", "name": "f"}, NAMED),
    ({"function": {"name": "f"}}, NAMED),
    (
        {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]},
        ALLOWED,
    ),
    (
        {
            "type": "allowed_tools",
            "allowed_tools": {
                "mode": "auto",
                "tools": [{"type": "function", "function": {"name": "f"}}],
            },
        },
        ToolChoice("auto", ["f"]),
    ),
]


@pytest.mark.parametrize(("given", "choice"), CHOICES)
def test_every_spelling_of_a_choice_is_understood_by_both_interfaces(given, choice):
    chat = msgspec.convert({**CHAT, "tool_choice": given}, ChatRequest)
    responses = msgspec.convert({"model": "m", "input": "x", "tool_choice": given}, ResponseRequest)
    for request in (chat, responses):
        assert choice_of(request.tool_choice) == choice


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"type": "web_search_preview"}, "'web_search_preview'"),
        ({"type": "function"}, "names no function"),
        ({"type": "allowed_tools"}, "needs tools"),
        ({"type": "allowed_tools", "tools": [{"type": "mcp", "name": "f"}]}, "'mcp'"),
    ],
)
def test_a_choice_that_cannot_be_obeyed_is_refused_by_name(given, words):
    request = msgspec.convert({**CHAT, "tool_choice": given}, ChatRequest)
    with pytest.raises(HttpError, match=words):
        choice_of(request.tool_choice)


@pytest.mark.parametrize("name", ["functions", "function_call"])
def test_what_came_before_tools_is_refused_by_name(name):
    body = msgspec.json.encode({**CHAT, name: [{"name": "f"}]})
    with pytest.raises(HttpError, match=f"{name} is not supported: send tools") as caught:
        decode(ChatRequest, body)
    assert (caught.value.status, caught.value.param) == (400, name)


def test_a_form_of_an_unknown_kind_is_refused_by_name():
    body = {**CHAT, "structured_outputs": {"structural_tag": "{}"}}
    with pytest.raises(msgspec.ValidationError, match="structural_tag"):
        msgspec.convert(body, ChatRequest)


def test_allowed_tools_are_all_told_and_some_may_be_called():
    use = tool_use([F, G], ToolChoice("auto", ["g"]))
    assert [tool["function"]["name"] for tool in use.tools] == ["f", "g"]
    assert use.rules(UNTAUGHT, is_bound=False).names == ["g"]


def test_a_call_needs_a_tool_and_a_name_that_is_one():
    with pytest.raises(HttpError, match="no tool is given"):
        tool_use([], ToolChoice("required"))
    with pytest.raises(HttpError, match="names 'h', no tool"):
        tool_use([F], ToolChoice("required", ["h"]))
    assert tool_use([F], ToolChoice("none")).tools == ()
    assert tool_use([], ToolChoice("auto")).tools == []


@pytest.mark.parametrize(
    ("choice", "is_required", "names", "is_single"),
    [
        (None, False, ["f", "g"], False),
        ({"type": "auto"}, False, ["f", "g"], False),
        ({"type": "auto", "disable_parallel_tool_use": True}, False, ["f", "g"], True),
        ({"type": "any", "disable_parallel_tool_use": True}, True, ["f", "g"], True),
        ({"type": "tool", "name": "g"}, True, ["g"], False),
        ({"type": "none"}, False, [], False),
    ],
)
def test_anthropics_choices(choice, is_required, names, is_single):
    tools = [{"name": "f"}, {"name": "g", "input_schema": SCHEMA}]
    body = {**CHAT, "max_tokens": 5, "tools": tools, "tool_choice": choice}
    use = _tool_use(msgspec.convert(body, MessageRequest))
    rules = use.rules(UNTAUGHT, is_bound=False)
    assert (use.is_required, rules.names, rules.is_single) == (is_required, names, is_single)
