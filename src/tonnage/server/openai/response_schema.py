"""What OpenAI's clients send to /v1/responses.

Specification: platform.openai.com/docs/api-reference/responses.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from tonnage.server.openai.schema import (
    ContentPart,
    Count,
    Name,
    NoOp,
    NoService,
    ServiceFields,
    StreamOptions,
    TextOnly,
    ToolChoices,
)

_NothingStored = Annotated[None, Meta(description="nothing is stored; send the whole input")]
_NoContext = Annotated[None, Meta(description="send the input as it is to be read, or truncation")]


class ResponseItem(Struct, kw_only=True):
    """An item of the input of a response: a message, a call, its result, or reasoning.

    summary: of reasoning. input, action, operation: of calls that are no function's.
    """

    type: str | None = None
    role: Literal["system", "developer", "user", "assistant"] | None = None
    content: str | list[ContentPart] | None = None
    summary: list[ContentPart] | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: Any = None
    input: Any = None
    action: Any = None
    operation: Any = None
    output: Any = None


class ResponseTool(Struct, kw_only=True):
    """A tool as /v1/responses writes it; only functions have all of the fields."""

    type: str = "function"
    name: Annotated[str, Meta(min_length=1, max_length=128)] | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class TextFormat(Struct):
    """The form of the answer, as /v1/responses writes it."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    json_schema: dict[str, Any] | None = None
    schema: dict[str, Any] | bool | None = None
    name: str | None = None
    description: str | None = None
    strict: bool | None = None


class TextSettings(Struct):
    """Settings of the answer's text."""

    format: TextFormat | None = None
    verbosity: str | None = None


class Reasoning(Struct):
    """How much the model is to think, in words that its template may know."""

    effort: str | None = None
    summary: str | None = None


# Parts of items that no response has here; log probabilities of its text are not among them.
Included = Literal[
    "reasoning.encrypted_content",
    "message.input_image.image_url",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
]


class ResponseRequest(ServiceFields, kw_only=True):
    """POST /v1/responses; nothing is stored, so what refers to that is refused.

    n, top_logprobs: a response is one, and has none. include: of items that only a service makes.
    """

    model: Name
    input: str | Annotated[list[ResponseItem], Meta(min_length=1)]
    instructions: str | None = None
    max_output_tokens: Count | None = None
    stream: bool | None = None
    tools: Annotated[list[ResponseTool], Meta(max_length=128)] | None = None
    tool_choice: ToolChoices | None = None
    text: TextSettings | None = None
    parallel_tool_calls: bool | None = None
    reasoning: Reasoning | None = None
    metadata: dict[str, Any] | None = None  # comes back as it was
    n: Literal[1] | None = None
    top_logprobs: Literal[0] | None = None
    include: list[Included] | None = None
    stream_options: StreamOptions | None = None
    max_tool_calls: NoOp = None
    client_metadata: NoOp = None  # of coding agents
    # Refused.
    previous_response_id: _NothingStored = None
    conversation: _NothingStored = None
    prompt: _NothingStored = None
    background: bool | None = None
    background_options: _NothingStored = None
    context_management: _NoContext = None
    access_programs: NoService = None
    image: TextOnly = None
