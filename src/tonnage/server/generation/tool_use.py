"""The tools of a request, whichever interface it came by."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol


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


@dataclass(frozen=True, slots=True)
class ToolUse:
    """tools: that may be called, as chat templates read them (OpenAI's form).

    is_required: the completion has to be a call, of the function `name` where it names one.
    """

    tools: Sequence[Mapping[str, Any]] = ()
    is_required: bool = False
    name: str | None = None

    @property
    def names(self) -> list[str]:
        """The functions that may be called."""
        return [tool["function"]["name"] for tool in self.tools]


def tool_use(
    functions: Iterable[Function] | None,
    choice: Literal["none", "auto", "required"] | None = None,
    name: str | None = None,
) -> ToolUse:
    """Return how functions may be used; name: the one that has to be called."""
    if choice == "none":
        return ToolUse()
    tools = [_tool(function) for function in functions or ()]
    return ToolUse(tools, bool(tools) and (choice == "required" or name is not None), name)


def _tool(function: Function) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {
            "name": function.name,
            "description": function.description or "",
            "parameters": function.parameters or {"type": "object", "properties": {}},
        },
    }
