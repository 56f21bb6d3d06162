"""Every spelling of OpenAI's `tool_choice`: chat's, that of responses, and those of other servers.

Specification: platform.openai.com/docs/api-reference. "any" is Mistral's word for "required".
"""

from tonnage.server.generation.tool_use import ToolChoice
from tonnage.server.http.failures import HttpError
from tonnage.server.openai.schema import NamedTool, ToolChoiceObject, ToolChoices

_PARAM = "tool_choice"


def choice_of(given: ToolChoices | None) -> ToolChoice:
    """Return which tools are to be called. Raises HttpError 400 for what cannot be obeyed here."""
    if given is None or given == "auto":
        return ToolChoice()
    if isinstance(given, str):
        return ToolChoice("none" if given == "none" else "required")
    match given.type:
        case "auto" | "none" | "required" | "any":
            return choice_of(given.type)
        case "function":
            return ToolChoice("required", [_name(given)], is_single=True)
        case "allowed_tools":
            return _allowed(given)
    raise HttpError(
        400,
        f"tool_choice has the type {given.type[:40]!r}; only functions can be called here.",
        param=_PARAM,
    )


def _allowed(given: ToolChoiceObject) -> ToolChoice:
    allowed = given.allowed_tools or given
    if not allowed.tools:
        raise HttpError(400, "tool_choice of type allowed_tools needs tools.", param=_PARAM)
    for tool in allowed.tools:
        if tool.type != "function":
            raise HttpError(
                400,
                f"tool_choice allows a tool of type {tool.type[:40]!r}; only functions can be "
                "called here.",
                param=_PARAM,
            )
    names = [_name(tool) for tool in allowed.tools]
    return ToolChoice("required" if allowed.mode in ("required", "any") else "auto", names)


def _name(tool: NamedTool | ToolChoiceObject) -> str:
    name = tool.name if tool.function is None else tool.function.name
    if not name:
        raise HttpError(400, "tool_choice names no function.", param=_PARAM)
    return name
