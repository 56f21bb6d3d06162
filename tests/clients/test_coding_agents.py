"""Requests of agents that write programs, as Codex sends them to /v1/responses: streamed, with
tools that only their makers' servers run, and with the items of earlier turns.
"""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from support.live_server import NAME, TOOL_TEMPLATE, Live, ScriptedEngine, live, write_chat_model
from tonnage.engine.engine import Engine

PATCH_GRAMMAR = 'start: "*** Begin Patch" /(.|\\n)+/ "*** End Patch"'
SHELL = {
    "type": "function",
    "name": "shell",
    "description": "Runs a command and returns its output.",
    "strict": False,
    "parameters": {
        "type": "object",
        "properties": {
            "command": {"type": "array", "items": {"type": "string"}},
            "workdir": {"type": "string", "description": "Where it runs."},
            "timeout_ms": {"type": "number"},
            "sandbox_permissions": {"type": "string"},
        },
        "required": ["command"],
        "additionalProperties": False,
    },
}
PLAN = {
    "type": "function",
    "name": "update_plan",
    "description": "Says which steps are done.",
    "strict": False,
    "parameters": {
        "type": "object",
        "properties": {
            "explanation": {"type": "string"},
            "plan": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"step": {"type": "string"}, "status": {"type": "string"}},
                    "required": ["step", "status"],
                    "additionalProperties": False,
                },
            },
        },
        "required": ["plan"],
        "additionalProperties": False,
    },
}
# What a server of one's own cannot run, or what no function is.
FOREIGN = [
    {"type": "local_shell"},
    {"type": "web_search", "external_web_access": False, "filters": {"allowed_domains": []}},
    {"type": "image_generation", "output_format": "png"},
    {"type": "tool_search", "execution": "client", "parameters": {"type": "object"}},
    {"type": "namespace", "name": "mcp__files__", "tools": [SHELL]},
    {"type": "code_interpreter", "container": {"type": "auto"}},
    {"type": "mcp", "server_label": "x", "server_url": "http://127.0.0.1:1", "headers": {}},
    {
        "type": "custom",
        "name": "apply_patch",
        "description": "Changes files.",
        "format": {"type": "grammar", "syntax": "lark", "definition": PATCH_GRAMMAR},
    },
]
ASK = [
    {
        "type": "message",
        "role": "developer",
        "content": [{"type": "input_text", "text": "<permissions>read-only</permissions>"}],
    },
    {
        "type": "message",
        "role": "user",
        "content": [
            {"type": "input_text", "text": "<environment_context><cwd>/x</cwd>"},
            {"type": "input_text", "text": "List the files."},
        ],
    },
]
CALL = {
    "type": "function_call",
    "id": "fc_1",
    "name": "shell",
    "arguments": '{"command":["ls"]}',
    "call_id": "call_1",
    "status": "completed",
}
RESULT = {"type": "function_call_output", "call_id": "call_1", "output": "a.py\nb.py\n"}
THOUGHT = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [{"type": "summary_text", "text": "I look."}],
    "content": None,
    "encrypted_content": "gAAAAA",
}
SAID = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "status": "completed",
    "phase": "commentary",
    "content": [{"type": "output_text", "text": "I list them.", "annotations": []}],
}
# Items of earlier turns in the order in which an agent sends them back, turn by turn.
HISTORIES = {
    "one call": [THOUGHT, CALL, RESULT],
    "text beside a call": [SAID, CALL, RESULT],
    "two calls and their results": [
        CALL, {**CALL, "call_id": "call_2", "id": "fc_2"}, RESULT, {**RESULT, "call_id": "call_2"},
    ],
    "a result in parts": [
        CALL, {**RESULT, "output": [{"type": "input_text", "text": "a.py"}]},
    ],
    "a call that was broken off": [CALL, {**RESULT, "output": "aborted"}, *ASK[1:]],
    "custom tools": [
        {"type": "custom_tool_call", "call_id": "c", "name": "apply_patch", "input": "*** Begin"},
        {"type": "custom_tool_call_output", "call_id": "c", "output": "Done."},
    ],
    "a shell of its own": [
        {"type": "local_shell_call", "call_id": "d", "status": "completed",
         "action": {"type": "exec", "command": ["ls"], "timeout_ms": 5, "env": {}}},
        {"type": "local_shell_call_output", "call_id": "d", "output": '{"output":"a.py"}'},
    ],
    "what a server ran": [
        {"type": "web_search_call", "id": "ws_1", "status": "completed",
         "action": {"type": "search", "query": "x"}},
        SAID,
    ],
    "what is kept of a long talk": [
        {"type": "compaction", "encrypted_content": "gAAAA"},
        {"type": "compaction_summary", "encrypted_content": "gAAAA"},
        SAID,
    ],
}  # fmt: skip


def request(**changes: Any) -> dict[str, Any]:
    """What such an agent sends, with `changes`."""
    return {
        "model": NAME,
        "instructions": "You write programs.",
        "input": ASK,
        "tools": [SHELL, PLAN, *FOREIGN],
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "reasoning": {"effort": "medium", "summary": "auto", "context": "auto"},
        "store": False,
        "stream": True,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "0199c4a1-5f0e-7000-8000-000000000000",
        "prompt_cache_retention": "24h",
        "service_tier": "auto",
        "text": {"verbosity": "low"},
        "client_metadata": {"x-codex-installation-id": "1"},
        **changes,
    }


def events_of(server: Live, body: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the events of a streamed response."""
    asked = urllib.request.Request(
        f"{server.url}/v1/responses",
        json.dumps(body).encode(),
        {
            "Content-Type": "application/json",
            "Accept": "text/event-stream",
            "Authorization": "Bearer none",
            "OpenAI-Beta": "responses=experimental",
            "session_id": "0199c4a1",
            "originator": "codex_cli_rs",
        },
    )
    try:
        answer = urllib.request.urlopen(asked, timeout=60)
    except urllib.error.HTTPError as refused:
        pytest.fail(refused.read().decode())
    with answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        lines = answer.read().decode().splitlines()
    return [json.loads(line[6:]) for line in lines if line.startswith("data: {")]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = write_chat_model(tmp_path_factory.mktemp("model") / "hf", TOOL_TEMPLATE)
    with Engine.open(str(folder), context=16384, threads=1) as opened:
        yield opened


def test_a_call_comes_as_the_agent_waits_for_it(engine: Engine) -> None:
    said = '<tool_call>\n{"name": "shell", "arguments": {"command": ["ls"]}}\n</tool_call>'
    with live(engine, ScriptedEngine([said[:20], said[20:]])) as server:
        events = events_of(server, request())
    kinds = [event["type"] for event in events]
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert "response.function_call_arguments.done" in kinds
    done = [e["item"] for e in events if e["type"] == "response.output_item.done"]
    calls = [item for item in done if item["type"] == "function_call"]
    assert [call["name"] for call in calls] == ["shell"]
    assert json.loads(calls[0]["arguments"]) == {"command": ["ls"]}
    assert calls[0]["call_id"]
    whole = events[-1]["response"]
    assert whole["usage"]["total_tokens"] > 0
    assert whole["output"] == done
    assert [event["sequence_number"] for event in events] == sorted(
        event["sequence_number"] for event in events
    )


def test_tools_that_the_server_cannot_run_are_named(engine: Engine) -> None:
    with live(engine, ScriptedEngine(["Hello."])) as server:
        told = events_of(server, request())[-1]["response"]
    assert told["skipped_types"] == [tool["type"] for tool in FOREIGN]
    assert [tool["name"] for tool in told["tools"]] == ["shell", "update_plan"]


def test_an_agent_without_any_tool_that_can_be_called(engine: Engine) -> None:
    with live(engine, ScriptedEngine(["Hello."])) as server:
        events = events_of(server, request(tools=FOREIGN))
    assert events[-1]["response"]["output"][-1]["content"][0]["text"] == "Hello."


@pytest.mark.parametrize("name", HISTORIES)
def test_what_was_said_before_is_understood(engine: Engine, name: str) -> None:
    body = request(input=[*ASK, *HISTORIES[name]])
    with live(engine, ScriptedEngine(["Hello."])) as server:
        events = events_of(server, body)
    assert events[-1]["type"] == "response.completed"
    texts = [e["text"] for e in events if e["type"] == "response.output_text.done"]
    assert texts == ["Hello."]


def test_the_last_words_of_a_run_may_have_a_form(engine: Engine) -> None:
    schema = {
        "type": "object",
        "properties": {"title": {"type": "string"}, "done": {"type": "boolean"}},
        "required": ["title", "done"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "name": "codex_output_schema", "strict": True, "schema": schema}
    with live(engine) as server:
        body = request(text={"format": form, "verbosity": "low"}, max_output_tokens=4, tools=[])
        last = events_of(server, body)[-1]
    assert last["type"] == "response.incomplete"
    assert last["response"]["output"][-1]["content"][0]["text"].startswith("{")


def test_the_list_of_models_is_there(engine: Engine) -> None:
    with live(engine) as server:
        url = f"{server.url}/v1/models?client_version=1.0.0"
        with urllib.request.urlopen(url, timeout=60) as answer:
            assert [model["id"] for model in json.load(answer)["data"]] == [NAME]


def test_a_summary_that_another_server_would_make_is_refused_in_words(engine: Engine) -> None:
    """POST /v1/responses/compact is a thing of the maker's servers; agents then go on without."""
    with live(engine) as server:
        asked = urllib.request.Request(
            f"{server.url}/v1/responses/compact", b"{}", {"Content-Type": "application/json"}
        )
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(asked, timeout=60)
    assert refused.value.code == 404
    assert json.load(refused.value)["error"]["message"]
