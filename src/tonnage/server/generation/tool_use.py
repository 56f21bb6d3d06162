"""The tools of a request, whichever interface it came by."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol

from tonnage.core.record import record
from tonnage.server.generation.call_formats import TAGGED, CallFormat, formats_of
from tonnage.server.http.failures import HttpError
from tonnage.text.tokenizer import Tokenizer


class Function(Protocol):
    """A function that the model may call; parameters is a JSON schema."""

    @property
    def name(self) -> str:
        """What it is called by."""

    @property
    def description(self) -> str | None:
        """What it does, in words."""

    @property
    def parameters(self) -> dict[str, Any] | None:
        """Its arguments; None for none."""

    @property
    def strict(self) -> bool | None:
        """Whether a call may be refused rather than bound to less than its schema says."""


@record
class ToolChoice:
    """Whether a tool is to be called: names are those that may be, None for all.

    is_single: it is to be called once.
    """

    mode: Literal["none", "auto", "required"] = "auto"
    names: Sequence[str] | None = None
    is_single: bool = False


@record
class CallRules:
    """What of a completion's text is a call: of which functions, in which forms, and how many."""

    names: Sequence[str] = ()
    formats: tuple[CallFormat, ...] = TAGGED
    with_bare: bool = True
    is_single: bool = False


NO_CALLS = CallRules()


@record
class ToolUse:
    """How a request's tools may be used.

    tools: as chat templates read them (OpenAI's form). callable: those that may be called.
    is_required: the completion has to be a call. is_single: there may be one call at most. strict:
    names of the functions whose whole schema binds.
    """

    tools: Sequence[Mapping[str, Any]] = ()
    callable: Sequence[Mapping[str, Any]] = ()
    is_required: bool = False
    is_single: bool = False
    strict: frozenset[str] = frozenset()

    def rules(self, tokenizer: Tokenizer, *, is_bound: bool) -> CallRules:
        """Return how calls are parsed from text. is_bound: a schema binds the text."""
        names = [tool["function"]["name"] for tool in self.callable]
        return CallRules(names, formats_of(tokenizer), not is_bound, self.is_single)


def tool_use(
    functions: Iterable[Function] | None,
    choice: ToolChoice | None = None,
    *,
    is_parallel: bool | None = None,
) -> ToolUse:
    """Return how functions may be used. is_parallel: False for one call at most.

    Raises HttpError 400 for a choice that they cannot meet.
    """
    choice, given = choice or ToolChoice(), list(functions or ())
    if choice.mode == "none":
        return ToolUse()
    if choice.mode == "required" and not given:
        raise HttpError(400, "tool_choice requires a call, but no tool is given.", param="tools")
    known = {function.name for function in given}
    for name in choice.names or ():
        if name not in known:
            raise HttpError(400, f"tool_choice names {name[:128]!r}, no tool.", param="tool_choice")
    tools = [_tool(function) for function in given]
    wanted = known if choice.names is None else set(choice.names)
    return ToolUse(
        tools,
        [tool for tool in tools if tool["function"]["name"] in wanted],
        choice.mode == "required",
        is_parallel is False or choice.is_single,
        frozenset(function.name for function in given if function.strict),
    )


def _tool(function: Function) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {
            "name": function.name,
            "description": function.description or "",
            "parameters": function.parameters or {"type": "object", "properties": {}},
        },
    }
