"""What the four interfaces share: turns, what a response tells of its request, refusals."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from support.live_server import NAME, Live, ScriptedEngine, live, write_chat_model
from tonnage.engine.engine import Engine

# Gemma's and Mistral's templates want user and assistant to take turns, and Gemma's no system.
ALTERNATING = (
    "{% for m in messages %}"
    "{% if m.role == 'system' or (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate user/assistant.') }}{% endif %}"
    "[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]"
)
TOOL = {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = write_chat_model(tmp_path_factory.mktemp("model") / "hf", ALTERNATING)
    with Engine.open(str(folder), context=1024, threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def server(engine: Engine) -> Iterator[Live]:
    with live(engine, ScriptedEngine(["Hello"])) as server:
        yield server


def post(server: Live, path: str, **body: Any) -> Any:
    reply = httpx.post(server.url + path, json={"model": NAME, **body})
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_results_of_tools_take_their_turn_by_every_interface(
    engine: Engine, tmp_path: Path
) -> None:
    answers = ScriptedEngine(["Hello"])
    function = {key: value for key, value in TOOL.items() if key != "type"}
    calls = [
        {"id": f"c{i}", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        for i in (1, 2)
    ]
    with live(engine, answers) as server:
        post(
            server,
            "/v1/chat/completions",
            tools=[{"type": "function", "function": function}],
            messages=[
                {"role": "user", "content": "q"},
                {"role": "assistant", "content": None, "tool_calls": calls},
                *({"role": "tool", "tool_call_id": f"c{i}", "content": f"r{i}"} for i in (1, 2)),
                {"role": "user", "content": "So?"},
            ],
        )
        post(
            server,
            "/v1/responses",
            tools=[TOOL],
            input=[
                {"role": "user", "content": "q"},
                *(
                    {"type": "function_call", "call_id": f"c{i}", "name": "f", "arguments": "{}"}
                    for i in (1, 2)
                ),
                *(
                    {"type": "function_call_output", "call_id": f"c{i}", "output": f"r{i}"}
                    for i in (1, 2)
                ),
                {"role": "user", "content": "So?"},
            ],
        )
        post(
            server,
            "/v1/messages",
            max_tokens=9,
            tools=[{"name": "f", "description": "d", "input_schema": TOOL["parameters"]}],
            messages=[
                {"role": "user", "content": "q"},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "tool_use", "id": f"c{i}", "name": "f", "input": {}}
                        for i in (1, 2)
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        *(
                            {"type": "tool_result", "tool_use_id": f"c{i}", "content": f"r{i}"}
                            for i in (1, 2)
                        ),
                        {"type": "text", "text": "So?"},
                    ],
                },
            ],
        )
    prompts = [engine.tokenizer.decode(asked[0]) for asked in answers.asked]
    assert len(set(prompts)) == 1
    assert prompts[0].startswith("[user]You may call functions")
    assert prompts[0].endswith(
        "[user]<tool_response>\nr1\n</tool_response>\n<tool_response>\nr2\n</tool_response>\nSo?"
        "[assistant]"
    )


def test_a_response_tells_its_request(server: Live) -> None:
    told = post(server, "/v1/responses", input="q")
    assert (told["tools"], told["tool_choice"], told["parallel_tool_calls"]) == ([], "auto", True)
    assert told["text"] == {"format": {"type": "text"}}
    assert "skipped_types" not in told
    reasoning = {"effort": "low", "summary": None}
    told = post(
        server,
        "/v1/responses",
        input="q",
        tools=[TOOL, {"type": "web_search"}],
        tool_choice="none",
        parallel_tool_calls=False,
        reasoning=reasoning,
        text={"format": {"type": "text"}, "verbosity": "low"},
        temperature=0.5,
    )
    assert told["tools"] == [{**TOOL, "strict": None}]
    assert (told["tool_choice"], told["parallel_tool_calls"]) == ("none", False)
    assert told["text"] == {"format": {"type": "text"}, "verbosity": "low"}
    assert (told["reasoning"], told["temperature"]) == (reasoning, 0.5)
    assert told["skipped_types"] == ["web_search"]
