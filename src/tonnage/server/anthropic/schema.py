"""What Anthropic's clients send to /v1/messages. A field is heard, a `NoOp`, or refused by name.

Specification: docs.anthropic.com/en/api/messages.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from tonnage.server.openai.schema import (
    BoundFields,
    Count,
    Name,
    NoOp,
    Share,
    Temperature,
    TopK,
    Truncation,
)


class Block(Struct, kw_only=True):
    """A block of content: text, thinking, tool_use or tool_result; others are refused by name."""

    type: str
    text: str | None = None
    thinking: str | None = None
    id: str | None = None
    name: str | None = None
    input: dict[str, Any] | None = None
    tool_use_id: str | None = None
    content: "str | list[Block] | None" = None
    is_error: bool | None = None


class Turn(Struct):
    """One message of the conversation."""

    role: Literal["user", "assistant", "system"]
    content: str | list[Block]


class AnthropicTool(Struct):
    """A tool that the model may use."""

    name: Annotated[str, Meta(min_length=1, max_length=128)]
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    type: str | None = None
    strict: bool | None = None


class AnthropicToolChoice(Struct):
    """Whether a tool is to be used."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class OutputFormat(Struct):
    """The form that the text of an answer has to have."""

    type: Literal["json_schema"]
    schema: dict[str, Any] | bool


class OutputConfig(Struct, forbid_unknown_fields=True):
    """Settings of an answer; effort is a word that the template may know."""

    format: OutputFormat | None = None
    effort: str | None = None


class Thinking(Struct):
    """Whether the model is to think before it answers; templates decide how much."""

    type: Literal["enabled", "disabled", "adaptive"]


_KeepAll = Literal["all"]


class KeptTurns(Struct):
    """Of how many turns thinking is kept."""

    type: _KeepAll


class ContextEdit(Struct):
    """What is left out of a conversation; all thinking is kept, or the template decides."""

    type: Literal["clear_thinking_20251015"]
    keep: _KeepAll | KeptTurns = "all"


class ContextManagement(Struct, forbid_unknown_fields=True):
    """Edits of a conversation before it is read; taken are those that edit nothing."""

    edits: list[ContextEdit] | None = None


class CountRequest(BoundFields, kw_only=True):
    """POST /v1/messages/count_tokens; output_format is an earlier name of output_config.format."""

    model: Name
    messages: Annotated[list[Turn], Meta(min_length=1)]
    system: str | list[Block] | None = None
    tools: Annotated[list[AnthropicTool], Meta(max_length=128)] | None = None
    tool_choice: AnthropicToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: OutputFormat | None = None
    speed: Literal["standard"] | None = None
    context_management: ContextManagement | None = None
    metadata: NoOp = None
    service_tier: NoOp = None
    cache_control: NoOp = None
    user_profile_id: NoOp = None
    workspace_id: NoOp = None


class MessageRequest(CountRequest, kw_only=True):
    """POST /v1/messages."""

    max_tokens: Count
    stream: bool | None = None
    stop_sequences: Annotated[list[str], Meta(max_length=16)] | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    top_k: TopK | None = None
    # Ours.
    truncation: Truncation | None = None
