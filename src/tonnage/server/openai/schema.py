"""What OpenAI's clients send. A field of a request is heard, a `NoOp`, or refused by name.

Specification: platform.openai.com/docs/api-reference. Fields below "ours" are not OpenAI's.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from tonnage.core.pooling import Pooling
from tonnage.core.sampling import MOST_BIAS, range_of


def _within(name: str) -> Meta:
    """Return the range that a setting has everywhere."""
    low, high = range_of(name)
    return Meta(ge=low, le=high)


Count = Annotated[int, Meta(ge=1, le=1 << 31)]
Choices = Annotated[int, Meta(ge=1, le=16)]
Share = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, _within("presence_penalty")]
Temperature = Annotated[float, _within("temperature")]
TopK = Annotated[int, _within("top_k")]
Stops = str | Annotated[list[str], Meta(max_length=16)]
_Shift = Annotated[float, Meta(ge=-MOST_BIAS, le=MOST_BIAS)]
Bias = Annotated[dict[str, _Shift], Meta(max_length=1024)]
Truncation = Literal["disabled", "middle", "auto"]
Pattern = Annotated[str, Meta(min_length=1, max_length=16_384)]
Grammar = Annotated[str, Meta(min_length=1, max_length=65_536)]
Texts = Annotated[list[Annotated[str, Meta(min_length=1)]], Meta(min_length=1, max_length=1024)]
Name = Annotated[str, Meta(min_length=1, max_length=128)]
# What a service of many customers needs and what only makes it faster. docs/serving.md lists them.
NoOp = Annotated[Any, Meta(description="Taken, and changes nothing.")]
# The descriptions of fields that are refused end the sentence of the refusal.
TextOnly = Annotated[None, Meta(description="this server reads and writes text only")]
NoService = Annotated[None, Meta(description="this server runs nothing but its models")]
_SendTools = Annotated[None, Meta(description="send tools and tool_choice")]


class RequestFields(Struct, kw_only=True, forbid_unknown_fields=True):
    """On what terms a request is served; all are ours."""

    priority: Annotated[int, Meta(ge=-100, le=100)] | None = None
    deadline_s: Annotated[float, Meta(gt=0, le=86_400)] | None = None
    cache_salt: Annotated[str, Meta(max_length=256)] | None = None


class StructuredOutputs(Struct, forbid_unknown_fields=True):
    """vLLM's way to say of which form an answer has to be."""

    json: dict[str, Any] | bool | str | None = None
    regex: Pattern | None = None
    choice: Texts | None = None
    grammar: Grammar | None = None
    json_object: bool | None = None


class BoundFields(RequestFields, kw_only=True):
    """What other servers call a form of the answer; OpenAI's own is apart."""

    guided_json: dict[str, Any] | bool | str | None = None
    guided_regex: Pattern | None = None
    guided_choice: Texts | None = None
    guided_grammar: Grammar | None = None
    structured_outputs: StructuredOutputs | None = None
    json_schema: dict[str, Any] | bool | str | None = None
    regex: Pattern | None = None
    ebnf: Grammar | None = None
    grammar: Grammar | None = None


class Sampling(BoundFields, kw_only=True):
    """How the answer is drawn; what is left out stays as `tonnage run` has it."""

    temperature: Temperature | None = None
    top_p: Share | None = None
    n: Choices | None = None
    stop: Stops | None = None
    seed: int | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: Bias | None = None
    # Ours.
    top_k: TopK | None = None
    min_p: Share | None = None
    repetition_penalty: Annotated[float, _within("repetition_penalty")] | None = None
    ignore_eos: bool | None = None
    truncation: Truncation | None = None


class StreamOptions(Struct, forbid_unknown_fields=True):
    """include_usage: the last event of a stream has the usage."""

    include_usage: bool | None = None
    include_obfuscation: NoOp = None


class ServiceFields(Sampling, kw_only=True):
    """What is meant for a service of many customers."""

    metadata: NoOp = None
    user: NoOp = None
    safety_identifier: NoOp = None
    service_tier: NoOp = None
    prompt_cache_key: NoOp = None
    prompt_cache_options: NoOp = None
    prompt_cache_retention: NoOp = None
    store: bool | None = None  # true is refused
    moderation: NoService = None


class ContentPart(Struct):
    """A part of a message's content; only parts of text are understood."""

    type: str
    text: str | None = None
    refusal: str | None = None


class CalledFunction(Struct):
    """A call in the history: arguments as JSON text, or as an object from tolerant clients."""

    name: str
    arguments: Any = ""


class ToolCall(Struct):
    """A tool call that the model made earlier."""

    function: CalledFunction
    id: str | None = None
    type: str | None = None


class ChatMessage(Struct):
    """One message of a conversation, with what clients send back of earlier answers."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    # What reasoning models thought before the content; the second name is other servers'.
    reasoning_content: str | None = None
    reasoning: str | None = None


class Function(Struct):
    """A function that the model may call; parameters is a JSON schema."""

    name: Annotated[str, Meta(min_length=1, max_length=128)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Struct):
    """A tool that the model may call; only functions are known."""

    function: Function
    type: Literal["function"] = "function"


class NamedFunction(Struct, omit_defaults=True):
    """A function by its name."""

    name: str


class NamedTool(Struct):
    """A tool by its name, as chat or as /v1/responses writes it."""

    type: str = "function"
    name: str | None = None
    function: NamedFunction | None = None


class AllowedTools(Struct, omit_defaults=True):
    """Tools among which the model chooses."""

    mode: Literal["auto", "required", "any"] = "auto"
    tools: list[NamedTool] | None = None


class ToolChoiceObject(AllowedTools, omit_defaults=True):
    """The tool that has to be called, or those that may be."""

    type: str = "function"
    name: str | None = None
    function: NamedFunction | None = None
    allowed_tools: AllowedTools | None = None


class ResponseFormat(Struct):
    """The form that the answer has to have; `regex` and `grammar` are ours."""

    type: Literal["text", "json_object", "json_schema", "regex", "grammar"]
    json_schema: dict[str, Any] | None = None
    schema: dict[str, Any] | bool | None = None
    regex: Pattern | None = None
    grammar: Grammar | None = None


Tools = Annotated[list[Tool], Meta(max_length=128)]
ToolChoices = Literal["none", "auto", "required", "any"] | ToolChoiceObject


class ChatRequest(ServiceFields, kw_only=True):
    """POST /v1/chat/completions."""

    model: Name
    messages: Annotated[list[ChatMessage], Meta(min_length=1)]
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: Tools | None = None
    tool_choice: ToolChoices | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    modalities: list[Literal["text"]] | None = None
    prediction: NoOp = None
    # Other servers'.
    chat_template_kwargs: dict[str, Any] | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    # Refused.
    functions: _SendTools = None
    function_call: _SendTools = None
    audio: TextOnly = None
    web_search_options: NoService = None


class CompletionRequest(Sampling, kw_only=True):
    """POST /v1/completions; prompt: text, token ids, or a list of either."""

    model: Name
    prompt: str | Annotated[list[str | int | list[int]], Meta(min_length=1)]
    max_tokens: Annotated[int, Meta(ge=0, le=1 << 31)] | None = 16
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    echo: bool | None = None
    best_of: int | None = None
    suffix: str | None = None
    response_format: ResponseFormat | None = None
    user: NoOp = None


class EmbeddingRequest(RequestFields, kw_only=True):
    """POST /v1/embeddings; input: a text, token ids, or a list of either. pooling is ours.

    Nothing is shared between embeddings, so cache_salt changes nothing.
    """

    model: Name
    input: str | Annotated[list[str | int | list[int]], Meta(min_length=1)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Count | None = None
    user: NoOp = None
    pooling: Pooling | None = None


class ModelRequest(Struct):
    """POST /models/load and /models/unload; what every request for one model has."""

    model: Name


class StreamRequest(ModelRequest):
    """What every request for completions has, before the rest is read."""

    stream: bool | None = None


class OptionalModel(Struct):
    """A request that is for the first model where it names none."""

    model: Name | None = None


class TokenizeRequest(OptionalModel, kw_only=True):
    """POST /tokenize: a text, or messages in the model's chat template."""

    content: str | None = None
    messages: list[ChatMessage] | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    add_special: bool = False
    parse_special: bool = False
    with_pieces: bool = False


class DetokenizeRequest(OptionalModel, kw_only=True):
    """POST /detokenize."""

    tokens: list[int] = field(default_factory=list)
