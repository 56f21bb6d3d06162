"""From what clients send as messages to what chat templates read."""

import json
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from tonnage.engine.prompts import PromptEnd
from tonnage.server.generation.call_formats import HERMES
from tonnage.server.http.failures import HttpError
from tonnage.server.openai.schema import ChatMessage, ContentPart, ToolCall

Turns = list[dict[str, Any]]
_TEXT_PARTS = ("text", "input_text", "output_text", "reasoning_text", "summary_text")
_MOST_ARGUMENTS = 8192
_ROLES = {"developer": "system", "function": "tool"}


def text_of(content: str | Sequence[ContentPart] | None, where: str) -> str:
    """Return the text of a content. Raises HttpError 400 for parts that are no text."""
    if content is None or isinstance(content, str):
        return content or ""
    texts = []
    for part in content:
        if part.type not in (*_TEXT_PARTS, "refusal"):
            raise HttpError(
                400,
                f"{where} has a part of type {part.type[:40]!r}; this model reads text only.",
                code="unsupported_content",
                param=where,
            )
        texts.append(part.text or part.refusal or "")
    return "".join(texts)


def turns_of(messages: Sequence[ChatMessage]) -> Turns:
    """Return messages for a template: contents are texts, arguments of calls are objects.

    Raises HttpError 400 for contents that are no text, 413 for calls that hold too much.
    """
    calls = (call for message in messages for call in message.tool_calls or ())
    require_few_arguments(call.function.arguments for call in calls)
    names = {
        call.id: call.function.name
        for message in messages
        for call in message.tool_calls or ()
        if call.id
    }
    return [_turn(message, names) for message in messages]


def prompt_end(*, adds: bool | None, continues: bool | None) -> PromptEnd:
    """Return the end of a prompt: the beginning of a turn, unless the request says otherwise.

    Raises HttpError 400 where a new turn and more of the last one are both asked for.
    """
    if adds and continues:
        raise HttpError(
            400,
            "add_generation_prompt begins a turn and continue_final_message goes on with the last "
            "one; ask for one of them.",
            param="continue_final_message",
        )
    if continues:
        return {"continue_final_message": True}
    return {"add_generation_prompt": adds is not False}


def _turn(message: ChatMessage, names: Mapping[str, str]) -> dict[str, Any]:
    role = _ROLES.get(message.role, message.role)
    turn: dict[str, Any] = {"role": role, "content": text_of(message.content, "messages")}
    if role == "tool":
        turn["name"] = message.name or names.get(message.tool_call_id or "", "")
        turn["tool_call_id"] = message.tool_call_id or ""
        return turn
    if message.tool_calls:
        turn["tool_calls"] = [_call(call) for call in message.tool_calls]
    reasoning = message.reasoning_content or message.reasoning
    if reasoning and role == "assistant":
        turn["reasoning_content"] = reasoning
    return turn


def _call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.function.name, "arguments": as_object(call.function.arguments)}
    return {"type": "function", "id": call.id or "", "function": function}


def require_few_arguments(arguments: Iterable[Any]) -> None:
    """Raise HttpError 413 when the JSON texts among all arguments hold very many values.

    In the body they are strings, so they were not counted before.
    """
    texts = [text for text in arguments if isinstance(text, str)]
    found = sum(text.count("[") + text.count("{") for text in texts)
    if found > _MOST_ARGUMENTS:
        raise HttpError(
            413,
            f"The arguments of all calls hold {found:,} lists and objects; at most "
            f"{_MOST_ARGUMENTS:,} are accepted.",
            code="request_too_large",
        )


def as_object(arguments: Any) -> Any:
    """Return a call's arguments as templates expect them; text that is no JSON stays as it is."""
    if not isinstance(arguments, str):
        return arguments
    try:
        return msgspec.json.decode(arguments or "{}")
    except (msgspec.DecodeError, RecursionError):
        return arguments


def merged(turns: Iterable[dict[str, Any]], roles: Container[str]) -> Turns:
    """Return turns so that those of one role that follow each other are one, for these roles.

    Texts are joined by a line end, calls and reasoning follow each other.
    """
    joined: Turns = []
    for turn in turns:
        if joined and turn["role"] in roles and joined[-1]["role"] == turn["role"]:
            joined[-1] = _joined(joined[-1], turn)
        else:
            joined.append(turn)
    return joined


def _joined(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    both = {**first, **second}
    for name in ("content", "reasoning_content"):
        texts = [turn[name] for turn in (first, second) if turn.get(name)]
        if texts or name in both:
            both[name] = "\n".join(texts)
    calls = [*first.get("tool_calls", ()), *second.get("tool_calls", ())]
    return {**both, "tool_calls": calls} if calls else both


def without_tools(
    turns: Turns, tools: Sequence[Mapping[str, Any]], *, knows_system: bool = True
) -> Turns:
    """Return the conversation for a template that knows no tools: they are described in words.

    The words are those that Hermes models were trained with, so the completion is parsed alike.
    Results of tools become a turn of the user, together with each other and with what the user
    says before or behind them: templates may want user and assistant to take turns. knows_system:
    the template has a place for a system message; else the tools are described in the first turn
    of the user.
    """
    plain = _with_results(turns)
    if not tools:
        return plain
    listed = "\n".join(msgspec.json.encode(tool).decode() for tool in tools)
    words = (
        "You may call functions to help with the request. Signatures:\n<tools>\n"
        f"{listed}\n</tools>\nTo call one, answer with its name and arguments as JSON:\n"
        f'{HERMES.open}\n{{"name": "...", "arguments": {{...}}}}\n{HERMES.close}'
    )
    if plain and plain[0]["role"] == "system":
        first = {**plain[0], "content": f"{plain[0]['content']}\n\n{words}"}
        return [first, *plain[1:]]
    if not knows_system and plain and plain[0]["role"] == "user":
        first = {**plain[0], "content": f"{words}\n\n{plain[0]['content']}"}
        return [first, *plain[1:]]
    return [{"role": "system", "content": words}, *plain]


def _with_results(turns: Turns) -> Turns:
    """Return turns with results and calls in words; a result joins the user's turns around it."""
    plain: Turns = []
    ends_in_result = False
    for turn in turns:
        is_result = turn["role"] == "tool"
        plain_turn = _plain(turn)
        joins = is_result or (ends_in_result and plain_turn["role"] == "user")
        if joins and plain and plain[-1]["role"] == "user":
            plain[-1] = _joined(plain[-1], plain_turn)
        else:
            plain.append(plain_turn)
        ends_in_result = is_result
    return plain


def _plain(turn: dict[str, Any]) -> dict[str, Any]:
    if turn["role"] == "tool":
        return {
            "role": "user",
            "content": f"<tool_response>\n{turn['content']}\n</tool_response>",
        }
    calls = turn.get("tool_calls")
    if not calls:
        return turn
    written = [_as_written(call["function"]) for call in calls]
    parts = [turn["content"], *written]
    rest = {key: value for key, value in turn.items() if key != "tool_calls"}
    return {**rest, "content": "\n".join(part for part in parts if part)}


def _as_written(function: Mapping[str, Any]) -> str:
    """Return a call with the white space that models write, so that its tokens are found again."""
    text = json.dumps(function, ensure_ascii=False)
    return f"{HERMES.open}\n{text}\n{HERMES.close}"
