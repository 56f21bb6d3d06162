"""Turns of a conversation by three interfaces, and for templates that know no tools.

What is right is in the interfaces' references: OpenAI's of chat and of responses, Anthropic's of
messages ("consecutive turns of one role are combined").
"""

from typing import Any

import msgspec
import pytest

from tonnage.server.anthropic.messages import _turns as turns_of_messages
from tonnage.server.anthropic.schema import CountRequest
from tonnage.server.generation.conversation import turns_of, without_tools
from tonnage.server.http.decoding import decode
from tonnage.server.http.failures import HttpError
from tonnage.server.openai.response_input import (
    functions_of,
    skipped_types,
    turns_of_input,
)
from tonnage.server.openai.response_schema import ResponseRequest
from tonnage.server.openai.schema import ChatRequest
from tonnage.server.openai.unsupported import require_nothing_stored

TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {}}}]


def response(**fields: Any) -> ResponseRequest:
    return decode(ResponseRequest, msgspec.json.encode({"model": "m", **fields}))


def chat_turns(*messages: dict[str, Any]) -> list[dict[str, Any]]:
    body = msgspec.json.encode({"model": "m", "messages": messages})
    return turns_of(decode(ChatRequest, body).messages)


def message_turns(*messages: dict[str, Any]) -> list[dict[str, Any]]:
    body = msgspec.json.encode({"model": "m", "messages": messages})
    return turns_of_messages(decode(CountRequest, body))


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def result(number: int) -> dict[str, str]:
    return {"role": "tool", "tool_call_id": f"c{number}", "content": f"r{number}"}


def called(number: int) -> dict[str, Any]:
    function = {"name": "f", "arguments": {"a": number}}
    return {"type": "function", "id": f"c{number}", "function": function}


WHOLE = [
    user("q"),
    {
        "role": "assistant",
        "content": "Let me look.",
        "tool_calls": [called(1), called(2)],
        "reasoning_content": "Both.",
    },
    {**result(1), "name": "f"},
    {**result(2), "name": "f"},
]


def test_text_calls_and_reasoning_are_one_turn_by_every_interface() -> None:
    calls = [
        {"id": f"c{i}", "type": "function", "function": {"name": "f", "arguments": f'{{"a":{i}}}'}}
        for i in (1, 2)
    ]
    said = {"role": "assistant", "content": "Let me look.", "tool_calls": calls}
    chat = chat_turns(user("q"), {**said, "reasoning_content": "Both."}, result(1), result(2))
    assert chat == WHOLE
    assert chat_turns(user("q"), {**said, "reasoning": "Both."}, result(1), result(2)) == WHOLE

    text = {"type": "output_text", "text": "Let me look."}
    items = [
        user("q"),
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [],
            "content": [{"type": "reasoning_text", "text": "Both."}],
        },
        {"type": "message", "role": "assistant", "content": [text]},
        *(
            {"type": "function_call", "call_id": f"c{i}", "name": "f", "arguments": f'{{"a":{i}}}'}
            for i in (1, 2)
        ),
        *({"type": "function_call_output", "call_id": f"c{i}", "output": f"r{i}"} for i in (1, 2)),
    ]
    assert turns_of_input(response(input=items)) == WHOLE

    blocks = [
        {"type": "thinking", "thinking": "Both.", "signature": ""},
        {"type": "text", "text": "Let me look."},
        *({"type": "tool_use", "id": f"c{i}", "name": "f", "input": {"a": i}} for i in (1, 2)),
    ]
    results = [{"type": "tool_result", "tool_use_id": f"c{i}", "content": f"r{i}"} for i in (1, 2)]
    told = message_turns(
        user("q"),
        {"role": "assistant", "content": blocks},
        {"role": "user", "content": results},
    )
    assert told == WHOLE


def test_calls_before_their_text_and_runs_of_several_rounds_keep_their_order() -> None:
    call = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
    done = {"type": "function_call_output", "call_id": "c1", "output": "r1"}
    said = {"role": "assistant", "content": "Done."}
    turns = turns_of_input(response(input=[user("q"), call, done, call, done, said]))
    assert [turn["role"] for turn in turns] == [
        "user", "assistant", "tool", "assistant", "tool", "assistant",
    ]  # fmt: skip
    assert turns[1]["content"] == ""
    assert turns[-1] == said


def test_messages_of_one_role_are_one_turn_for_anthropics_interface_alone() -> None:
    assert message_turns(user("a"), user("b")) == [user("a\nb")]
    assert chat_turns(user("a"), user("b")) == [user("a"), user("b")]


def told_results(*numbers: int) -> str:
    return "\n".join(f"<tool_response>\nr{n}\n</tool_response>" for n in numbers)


@pytest.mark.parametrize(
    ("behind", "told"),
    [
        ([result(1)], [told_results(1)]),
        ([result(1), result(2)], [told_results(1, 2)]),
        ([result(1), user("And?")], [told_results(1) + "\nAnd?"]),
        ([result(1), result(2), user("And?")], [told_results(1, 2) + "\nAnd?"]),
        ([user("Wait."), result(1)], ["Wait.\n" + told_results(1)]),
        # Two turns of the user are the client's own: the template decides on them.
        ([user("a"), user("b")], ["a", "b"]),
    ],
)
def test_results_are_one_turn_of_the_user_where_a_template_knows_no_tools(
    behind: list[dict[str, Any]], told: list[str]
) -> None:
    calls = {"role": "assistant", "content": "", "tool_calls": [called(1), called(2)]}
    turns = without_tools([user("q"), calls, *behind], ())
    assert [turn["role"] for turn in turns[:2]] == ["user", "assistant"]
    assert [turn["content"] for turn in turns[2:]] == told
    assert {turn["role"] for turn in turns[2:]} == {"user"}


def test_tools_are_told_where_the_template_can_hear_of_them() -> None:
    system = {"role": "system", "content": "Be brief."}
    assert [t["role"] for t in without_tools([user("q")], TOOLS)] == ["system", "user"]
    assert [t["role"] for t in without_tools([system, user("q")], TOOLS)] == ["system", "user"]
    (only,) = without_tools([user("q")], TOOLS, knows_system=False)
    assert only["role"] == "user"
    assert only["content"].endswith("\n\nq")
    assert '"name":"f"' in only["content"]


def test_what_a_server_cannot_run_is_left_out_by_name() -> None:
    function = {"type": "function", "name": "f", "parameters": {}, "strict": False}
    request = response(
        tools=[function, {"type": "web_search"}, {"type": "namespace", "name": "n", "tools": []}],
        input=[
            user("q"),
            {
                "type": "web_search_call",
                "id": "ws",
                "status": "completed",
                "action": {"query": "x"},
            },
            {"type": "reasoning", "id": "rs", "summary": [], "content": None},
        ],
    )
    assert [tool.name for tool in functions_of(request)] == ["f"]
    assert skipped_types(request) == ["web_search", "namespace", "web_search_call"]
    assert turns_of_input(request) == [user("q")]


def test_calls_that_are_no_functions_are_told_with_their_results() -> None:
    patch = {"type": "custom_tool_call", "call_id": "c", "name": "apply_patch", "input": "x"}
    shell = {"type": "local_shell_call", "call_id": "d", "action": {"command": ["ls"]}}
    outputs = [
        {"type": "custom_tool_call_output", "call_id": "c", "output": "ok"},
        {"type": "local_shell_call_output", "call_id": "d", "output": {"stdout": "a"}},
    ]
    turns = turns_of_input(response(input=[user("q"), patch, shell, *outputs]))
    assert [call["function"] for call in turns[1]["tool_calls"]] == [
        {"name": "apply_patch", "arguments": {"input": "x"}},
        {"name": "local_shell", "arguments": {"action": {"command": ["ls"]}}},
    ]
    assert [turn["content"] for turn in turns[2:]] == ["ok", '{"stdout":"a"}']
    assert [turn["name"] for turn in turns[2:]] == ["apply_patch", "local_shell"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("previous_response_id", "resp_1"),
        ("conversation", "conv_1"),
        ("conversation", {"id": "conv_1"}),
        ("prompt", {"id": "pmpt_1"}),
        ("background", True),
        ("store", True),
    ],
)
def test_what_would_have_to_be_stored_is_refused(name: str, value: Any) -> None:
    with pytest.raises(HttpError) as caught:
        require_nothing_stored(response(input="q", **{name: value}))
    assert (caught.value.status, caught.value.param) == (400, name)
    assert name in caught.value.sentence


def test_a_reference_to_an_item_is_refused() -> None:
    with pytest.raises(HttpError, match="cannot refer to an item"):
        turns_of_input(response(input=[user("q"), {"type": "item_reference", "id": "msg_1"}]))
