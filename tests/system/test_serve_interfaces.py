"""What the four interfaces share: turns, what a response tells of its request, refusals."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import anthropic
import msgspec
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


def reply_to(server: Live, path: str, **body: Any) -> tuple[int, str]:
    """Return the status and the text of an answer."""
    data = msgspec.json.encode({"model": NAME, **body})
    asked = Request(server.url + path, data, {"Content-Type": "application/json"})
    try:
        with urlopen(asked, timeout=60) as reply:
            return reply.status, reply.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()


def post(server: Live, path: str, **body: Any) -> Any:
    status, text = reply_to(server, path, **body)
    assert status == 200, text
    return msgspec.json.decode(text)


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


def events(server: Live, path: str, **body: Any) -> list[dict[str, Any]]:
    _, text = reply_to(server, path, stream=True, **body)
    lines = [line for line in text.splitlines() if line.startswith("data: {")]
    return [msgspec.json.decode(line[6:]) for line in lines]


THINKING = (
    "{% for m in messages %}[{{ m.role }}]{% if m.reasoning_content %}<think>"
    "{{ m.reasoning_content }}</think>{% endif %}{{ m.content.split('</think>')[-1] }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% if enable_thinking is defined and not "
    "enable_thinking %}<think></think>{% endif %}{% endif %}"
)
HI = [{"role": "user", "content": "q"}]
ANSWER = ["<th", "ink>\nTwo and", " two.\n</thi", "nk>\n\nIt is", " 4."]


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = write_chat_model(tmp_path_factory.mktemp("thinker") / "hf", THINKING)
    with Engine.open(str(folder), context=1024, threads=1) as opened:
        yield opened


def test_what_a_model_thinks_is_told_apart_by_every_interface(thinker: Engine) -> None:
    with live(thinker, ScriptedEngine(ANSWER)) as server:
        chat = post(server, "/v1/chat/completions", messages=HI)
        message = chat["choices"][0]["message"]
        assert (message["reasoning_content"], message["content"]) == ("Two and two.", "It is 4.")
        assert chat["usage"]["completion_tokens_details"]["reasoning_tokens"] > 0
        deltas = [
            choice["delta"]
            for event in events(server, "/v1/chat/completions", messages=HI)
            for choice in event["choices"]
        ]
        assert "".join(d.get("reasoning_content", "") for d in deltas) == "Two and two."
        assert "".join(d.get("content", "") for d in deltas) == "It is 4."

        items = post(server, "/v1/responses", input="q")["output"]
        assert [item["type"] for item in items] == ["reasoning", "message"]
        assert items[0]["content"] == [{"type": "reasoning_text", "text": "Two and two."}]
        assert items[1]["content"][0]["text"] == "It is 4."
        told = events(server, "/v1/responses", input="q")
        thought = [e["delta"] for e in told if e["type"] == "response.reasoning_text.delta"]
        assert "".join(thought) == "Two and two."
        ended = told[-1]["response"]["output"]
        assert [{**one, "id": ""} for one in ended] == [{**one, "id": ""} for one in items]
        assert [e["sequence_number"] for e in told] == list(range(len(told)))

        blocks = post(server, "/v1/messages", messages=HI, max_tokens=99)["content"]
        assert blocks == [
            {"type": "thinking", "thinking": "Two and two.", "signature": ""},
            {"type": "text", "text": "It is 4."},
        ]
        told = events(server, "/v1/messages", messages=HI, max_tokens=99)
        kinds = [e["content_block"]["type"] for e in told if e["type"] == "content_block_start"]
        assert kinds == ["thinking", "text"]
        with (
            anthropic.Anthropic(base_url=server.url, api_key="x", max_retries=0) as claude,
            claude.messages.stream(model=NAME, messages=HI, max_tokens=99) as stream,
        ):
            final = stream.get_final_message()
        assert [block.to_dict() for block in final.content] == blocks


def test_a_wish_for_no_thought_reaches_the_template_by_every_interface(thinker: Engine) -> None:
    answers = ScriptedEngine(["4"])
    with live(thinker, answers) as server:
        post(server, "/v1/chat/completions", messages=HI, reasoning_effort="none")
        post(server, "/v1/responses", input="q", reasoning={"effort": "none"})
        post(server, "/v1/messages", messages=HI, max_tokens=9, thinking={"type": "disabled"})
    prompts = [thinker.tokenizer.decode(asked[0]) for asked in answers.asked]
    assert prompts == ["[user]q[assistant]<think></think>"] * 3


def test_a_last_turn_is_continued_where_that_is_asked_for(thinker: Engine) -> None:
    answers = ScriptedEngine(["4"])
    begun = [*HI, {"role": "assistant", "content": "It is"}]
    with live(thinker, answers) as server:
        post(server, "/v1/chat/completions", messages=begun, continue_final_message=True)
        post(
            server,
            "/v1/chat/completions",
            messages=begun,
            continue_final_message=True,
            add_generation_prompt=False,
        )
        post(server, "/v1/messages", messages=begun, max_tokens=9)
        blocks = [{"type": "text", "text": "It is"}]
        post(
            server,
            "/v1/messages",
            messages=[*HI, {"role": "assistant", "content": blocks}],
            max_tokens=9,
        )
        assert len(set(tuple(asked[0]) for asked in answers.asked)) == 1
        assert thinker.tokenizer.decode(answers.asked[0][0]) == "[user]q[assistant]It is"
        count = post(server, "/v1/messages/count_tokens", messages=begun)["input_tokens"]
        told = post(server, "/tokenize", messages=begun, continue_final_message=True)
        assert count == told["count"] == len(answers.asked[0][0])
        # Without the wish a turn is a whole one, and another begins.
        told = post(server, "/tokenize", messages=begun)["tokens"]
        assert thinker.tokenizer.decode(told) == "[user]q[assistant]It is[assistant]"
        told = post(server, "/tokenize", messages=begun, add_generation_prompt=False)["tokens"]
        assert thinker.tokenizer.decode(told) == "[user]q[assistant]It is"
        wrong = {"continue_final_message": True, "add_generation_prompt": True}
        status, text = reply_to(server, "/v1/chat/completions", messages=begun, **wrong)
        assert status == 400
        assert "continue_final_message" in text
