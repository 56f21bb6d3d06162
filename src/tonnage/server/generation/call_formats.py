"""How models write tool calls, as data: what stands around the JSON, and what a call's JSON is.

Sources: the chat templates and model cards of the families named below; JSON is RFC 8259.
"""

import json
import os
from collections.abc import Collection
from typing import Any, Literal

from tonnage.core.record import record
from tonnage.text.tokenizer import Tokenizer


@record
class Call:
    """A call that the model made; arguments: a JSON object as text."""

    call_id: str
    name: str
    arguments: str


@record
class CallFormat:
    """What stands around calls: `open`, JSON values, and `close` where there is any.

    name_end: the function's name may stand between `open` and this text, its arguments behind.
    is_exclusive: one thing in the block that is no call makes all of it text. syntax: of the calls,
    JSON, a list as Python writes it, or a line of Python.
    """

    open: str
    close: str = ""
    name_end: str = ""
    is_exclusive: bool = False
    syntax: Literal["json", "list", "line"] = "json"


HERMES = CallFormat("<tool_call>", "</tool_call>")  # Hermes 2 and 3, Qwen 2.5 and 3
# A completion that is JSON throughout: Llama 3 with "parameters", Mistral with a list.
BARE = CallFormat("", is_exclusive=True)
# The same as a list of Python: Llama 3.2 and 4.
PYTHONIC = CallFormat("", is_exclusive=True, syntax="list")
TAGGED = (
    HERMES,
    CallFormat("[TOOL_CALLS]", name_end="[ARGS]"),  # Mistral: a list of calls; since v11 a name
    CallFormat("<|python_tag|>"),  # Llama 3.1
    CallFormat("<function=", "</function>", name_end=">"),  # Llama 3.1, own functions
    CallFormat("<|tool_call|>", "<|/tool_call|>"),  # Phi 4 mini, Granite 3
    CallFormat("functools"),  # Phi 4 mini, Firefunction
    # Qwen 2.5 Coder, whatever its template teaches.
    CallFormat("```json", "```", is_exclusive=True),
    CallFormat("```tool_call", "```", is_exclusive=True),
    CallFormat("```", "```", is_exclusive=True),
)
# Formats that are looked for where a template has the text that teaches them.
TAUGHT = {
    "[func_name1(": PYTHONIC,  # Llama 3.2 with the prompt of its card, Llama 4
    "<|python_start|>": CallFormat("<|python_start|>", "<|python_end|>", syntax="list"),  # Llama 4
    "<|tool_call_start|>": CallFormat(  # LFM 2
        "<|tool_call_start|>", "<|tool_call_end|>", syntax="list"
    ),
    "tool_code": CallFormat("```tool_code", "```", is_exclusive=True, syntax="line"),  # Gemma
}
MEMBERS = frozenset({"name", "arguments", "parameters", "type", "id", "function"})
SEPARATORS = " \t\r\n,;"


def fresh_id(kind: str) -> str:
    """Return a new name for an object of a completion."""
    return f"{kind}_{os.urandom(12).hex()}"


def formats_of(tokenizer: Tokenizer) -> tuple[CallFormat, ...]:
    """Return the formats that calls are looked for in: the usual ones, and what templates teach."""
    template = (tokenizer.chat_template or "") + (tokenizer.tool_template or "")
    return (*TAGGED, *(one for mark, one in TAUGHT.items() if mark in template))


def control_marks(tokenizer: Tokenizer) -> frozenset[int]:
    """Return the control tokens that stand around calls: they are text where tools are offered."""
    formats = formats_of(tokenizer)
    marks = {mark for one in formats for mark in (one.open, one.close, one.name_end)}
    found = (tokenizer.token_id(mark) for mark in marks if mark)
    return frozenset(one for one in found if one is not None and tokenizer.is_control(one))


def calls_in(text: str, names: Collection[str], *, need_arguments: bool) -> list[Call]:
    """Return the calls that a JSON value holds, a call or a list of them.

    Empty unless all of it is calls of `names` and nothing else. need_arguments: a call without any
    is none.
    """
    value = decoded(text)
    values = value if isinstance(value, list) else [value]
    found = [_call(one, names, need_arguments=need_arguments) for one in values]
    calls = [call for call in found if call is not None]
    return calls if len(calls) == len(found) else []


def call_of(name: str, arguments: Any) -> Call | None:
    """Return the call of `name`; None unless arguments are an object, or the text of one."""
    if isinstance(arguments, str):
        arguments = decoded(arguments)
    if not isinstance(arguments, dict):
        return None
    try:
        # Python reads and writes NaN, infinity and halves of surrogate pairs; JSON has none.
        text = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
        text.encode()
    except ValueError:
        return None
    return Call(fresh_id("call"), name, text)


def _call(value: Any, names: Collection[str], *, need_arguments: bool) -> Call | None:
    if not isinstance(value, dict) or value.get("type", "function") != "function":
        return None
    if isinstance(value.get("function"), dict):
        if not value.keys() <= {"type", "id", "function"}:
            return None
        value = value["function"]
    members = value.keys() - {"type", "id", "name"}
    if len(members) > 1 or not members <= {"arguments", "parameters"}:
        return None
    name = value.get("name")
    if not isinstance(name, str) or name not in names or (need_arguments and not members):
        return None
    return call_of(name, value[members.pop()] if members else {})


def decoded(text: str) -> Any:
    """Return what JSON says, None where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
