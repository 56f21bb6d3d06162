"""What /v1/responses is given: items of its input as turns, tools that can be called here."""

from collections.abc import Iterable
from typing import Any

import msgspec

from tonnage.server.generation.conversation import (
    Turns,
    as_object,
    merged,
    require_few_arguments,
    text_of,
)
from tonnage.server.http.failures import HttpError
from tonnage.server.openai.response_schema import (
    ResponseItem,
    ResponseRequest,
    ResponseTool,
)
from tonnage.server.openai.schema import ContentPart, Function
from tonnage.server.openai.unsupported import unsupported

# Items about a call which the client carried out -> the field that its arguments are in.
_CALLS = {
    "function_call": "arguments",
    "custom_tool_call": "input",
    "local_shell_call": "action",
    "shell_call": "action",
    "apply_patch_call": "operation",
}
_RESULTS = frozenset(f"{name}_output" for name in _CALLS)


def function_tools(request: ResponseRequest) -> list[ResponseTool]:
    """Return the tools that are functions; others are for servers that run them."""
    return [tool for tool in request.tools or () if tool.type == "function"]


def functions_of(request: ResponseRequest) -> list[Function]:
    """Return what may be called. Raises HttpError 400 for a function without a name."""
    found = []
    for tool in function_tools(request):
        if tool.name is None:
            raise HttpError(400, "A function of tools has no name.", param="tools")
        found.append(Function(tool.name, tool.description, tool.parameters, tool.strict))
    return found


def skipped_types(request: ResponseRequest) -> list[str]:
    """Return the types of tools and items that this server leaves out, each once."""
    tools = (tool.type for tool in request.tools or () if tool.type != "function")
    items: Iterable[str] = ()
    if not isinstance(request.input, str):
        items = (item.type or "" for item in request.input if not _is_known(item))
    return list(dict.fromkeys(name[:40] for name in (*tools, *items)))


def _is_known(item: ResponseItem) -> bool:
    kind = item.type
    return _is_message(item) or kind in _CALLS or kind in _RESULTS or kind == "reasoning"


def _is_message(item: ResponseItem) -> bool:
    return item.type in (None, "message")


def turns_of_input(request: ResponseRequest) -> Turns:
    """Return the conversation as chat templates read it; a run of the assistant's items is a turn.

    Raises HttpError 400 for contents that are no text, 413 for calls that hold too much.
    """
    turns: Turns = []
    if request.instructions:
        turns.append({"role": "system", "content": request.instructions})
    if isinstance(request.input, str):
        return [*turns, {"role": "user", "content": request.input}]
    require_few_arguments(item.arguments for item in request.input)
    names: dict[str, str] = {}
    items = [turn for item in request.input if (turn := _turn(item, names)) is not None]
    # Reasoning that no answer followed belongs to a turn that was given up.
    thought = {"role", "reasoning_content"}
    said = (turn for turn in merged(items, ("assistant",)) if set(turn) != thought)
    return [*turns, *({"content": "", **turn} for turn in said)]


def _turn(item: ResponseItem, names: dict[str, str]) -> dict[str, Any] | None:
    """Return what an item of the input says; names: functions by their call."""
    call_id, kind = item.call_id or "", item.type or "message"
    if kind in _CALLS:
        names[call_id] = item.name or kind.removesuffix("_call")
        function = {"name": names[call_id], "arguments": _arguments(item, kind)}
        call = {"type": "function", "id": call_id, "function": function}
        return {"role": "assistant", "tool_calls": [call]}
    if kind in _RESULTS:
        call_fields = {"name": names.get(call_id, ""), "tool_call_id": call_id}
        return {"role": "tool", "content": _output(item), **call_fields}
    if kind == "reasoning":
        text = text_of(item.content or item.summary, "input")
        return {"role": "assistant", "reasoning_content": text} if text else None
    if kind == "item_reference":
        raise unsupported("Nothing is stored, so the input cannot refer to an item.", "input")
    if not _is_message(item):
        return None
    if item.role is None:
        raise HttpError(400, "The input has a message without a role.", param="input")
    role = "system" if item.role == "developer" else item.role
    return {"role": role, "content": text_of(item.content, "input")}


def _arguments(item: ResponseItem, kind: str) -> Any:
    """Return the arguments of a call as an object, as templates expect them."""
    if kind == "function_call":
        return as_object(item.arguments or "{}")
    field = _CALLS[kind]
    return {field: getattr(item, field)}


def _output(item: ResponseItem) -> str:
    """Return the text of a result; what is neither text nor parts of text becomes JSON."""
    output = item.output
    if output is None or isinstance(output, str):
        return output or ""
    try:
        parts = msgspec.convert(output, list[ContentPart])
    except msgspec.ValidationError:
        return msgspec.json.encode(output).decode()
    return text_of(parts, "input")
