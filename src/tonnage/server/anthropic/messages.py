"""POST /v1/messages and /v1/messages/count_tokens, as Anthropic's clients speak."""

from array import array
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec

from tonnage.core.sampling import SamplingOptions
from tonnage.server.anthropic.schema import (
    AnthropicTool,
    AnthropicToolChoice,
    Block,
    CountRequest,
    MessageRequest,
    Turn,
)
from tonnage.server.generation.call_formats import Call, fresh_id
from tonnage.server.generation.choices import Choice, Choices, OutputPart
from tonnage.server.generation.conversation import Turns, merged, prompt_end
from tonnage.server.generation.delivery import deliver, dropped_header
from tonnage.server.generation.reasoning import Thought, template_variables
from tonnage.server.generation.tool_use import ToolChoice, ToolUse, tool_use
from tonnage.server.http.decoding import decode
from tonnage.server.http.exchange import HttpExchange
from tonnage.server.http.failures import HttpError
from tonnage.server.models.service import PreparedRequest, Prompt, Service
from tonnage.server.models.tenants import Tenant
from tonnage.server.openai.forms import form_of
from tonnage.server.openai.schema import Function, ResponseFormat


async def messages(service: Service, exchange: HttpExchange, tenant: Tenant, body: bytes) -> None:
    """Answer a conversation, whole or as a stream of events."""
    prepared = await exchange.prepared(lambda: _prepared(service, tenant, body))
    await deliver(service, exchange, prepared, _Writer(service.name, prepared.prompts[0]))


async def _prepared(service: Service, tenant: Tenant, body: bytes) -> PreparedRequest:
    request = decode(MessageRequest, body)
    use = _tool_use(request)
    tokens = await _encoded(service, request, use)
    prompt = service.fit(tokens, request.truncation, request.max_tokens)
    parameters = service.parameters(request, tenant)
    form = form_of(request, _format(request), "output_config.format")
    constraint = await service.aside(lambda: service.structured.of_request(use, form))
    options = replace(_options(request), constraint=constraint)
    return PreparedRequest(
        [prompt],
        options,
        parameters,
        call_rules=use.rules(service.engine.tokenizer, is_bound=form is not None),
        is_stream=bool(request.stream),
        reasoning=service.reasoning_start(prompt, options),
    )


async def _encoded(service: Service, request: CountRequest, use: ToolUse) -> "array[int]":
    """Return the token ids of a conversation; a last turn of the assistant is to be continued."""
    turns = _turns(request)
    continues = bool(turns) and turns[-1]["role"] == "assistant"
    end = prompt_end(adds=None, continues=continues)
    config = request.output_config
    variables = template_variables(None if config is None else config.effort)
    if request.thinking is not None:
        variables["enable_thinking"] = request.thinking.type != "disabled"
    return await service.encode_chat(turns, use.tools, variables, **end)


async def count_tokens(
    service: Service, exchange: HttpExchange, tenant: Tenant, body: bytes
) -> None:
    """Return how many tokens a conversation has."""

    async def count() -> int:
        request = decode(CountRequest, body)
        return len(await _encoded(service, request, _tool_use(request)))

    await exchange.json({"input_tokens": await exchange.prepared(count)})


def _options(request: MessageRequest) -> SamplingOptions:
    values: dict[str, Any] = {"max_tokens": request.max_tokens}
    for name in ("temperature", "top_p", "top_k"):
        if getattr(request, name) is not None:
            values[name] = getattr(request, name)
    return SamplingOptions(**values, stop=tuple(request.stop_sequences or ()))


def _format(request: MessageRequest) -> ResponseFormat | None:
    config = request.output_config
    given = request.output_format if config is None or config.format is None else config.format
    return None if given is None else ResponseFormat(given.type, schema=given.schema)


def _tool_use(request: CountRequest) -> ToolUse:
    choice = request.tool_choice
    if choice is None:
        return tool_use(map(_function, request.tools or ()))
    functions = [] if choice.type == "none" else map(_function, request.tools or ())
    is_parallel = not choice.disable_parallel_tool_use
    return tool_use(functions, _choice(choice), is_parallel=is_parallel)


def _choice(given: AnthropicToolChoice) -> ToolChoice:
    match given.type:
        case "none" | "auto" as mode:
            return ToolChoice(mode)
        case "any":
            return ToolChoice("required")
        case "tool" if given.name:
            return ToolChoice("required", [given.name])
    raise HttpError(400, "tool_choice of type tool needs a name.", param="tool_choice")


def _function(tool: AnthropicTool) -> Function:
    if tool.type not in (None, "custom"):
        raise HttpError(
            400,
            f"The tool {tool.name!r} is of type {tool.type[:40]!r}; only custom ones are known.",
        )
    return Function(tool.name, tool.description, tool.input_schema, tool.strict)


def _turns(request: CountRequest) -> Turns:
    """Return the conversation as chat templates read it."""
    turns: Turns = []
    if request.system:
        turns.append({"role": "system", "content": _text(request.system)})
    names: dict[str, str] = {}
    for turn in request.messages:
        turns += _turn(turn, names)
    # The interface takes several turns of one role for one.
    return merged(turns, ("user", "assistant"))


def _turn(turn: Turn, names: dict[str, str]) -> Turns:
    """Return one message, results of tools as turns of their own; names: tools by their call."""
    if isinstance(turn.content, str):
        return [{"role": turn.role, "content": turn.content}]
    turns: Turns = []
    texts: list[Block] = []
    thoughts: list[str] = []
    calls: list[dict[str, Any]] = []
    for block in turn.content:
        if block.type == "tool_use":
            names[block.id or ""] = block.name or ""
            function = {"name": block.name or "", "arguments": block.input or {}}
            calls.append({"type": "function", "id": block.id or "", "function": function})
        elif block.type == "tool_result":
            call_id = block.tool_use_id or ""
            result = {"name": names.get(call_id, ""), "tool_call_id": call_id}
            turns.append({"role": "tool", "content": _text(block.content or ""), **result})
        elif block.type == "thinking":
            thoughts.append(block.thinking or "")
        elif block.type != "redacted_thinking":
            texts.append(block)
    if texts or calls:
        said: dict[str, Any] = {"role": turn.role, "content": _text(texts)}
        if calls:
            said["tool_calls"] = calls
        if thoughts:
            said["reasoning_content"] = "\n".join(thoughts)
        turns.append(said)
    return turns


def _text(content: str | Sequence[Block]) -> str:
    if isinstance(content, str):
        return content
    wrong = next((block.type for block in content if block.type != "text"), None)
    if wrong is not None:
        raise HttpError(
            400, f"A message has a block of type {wrong[:40]!r}; this model reads text only."
        )
    return "\n".join(block.text or "" for block in content)


class _Writer:
    """Writes one answer as Anthropic's objects and events."""

    def __init__(self, model: str, prompt: Prompt) -> None:
        self._prompt = prompt
        self._head = {
            "id": fresh_id("msg"),
            "type": "message",
            "role": "assistant",
            "model": model,
        }
        self._begun = False
        self._index = -1
        self._kind = ""  # of the block that is open

    def _usage(self, choice: Choice) -> dict[str, int]:
        generation = choice.completion.generation
        cached = generation.num_cached_tokens
        usage = {
            "input_tokens": len(self._prompt.tokens) - cached,
            "cache_read_input_tokens": cached,
            "output_tokens": len(generation.tokens),
        }
        dropped = self._prompt.dropped_tokens
        return {**usage, "dropped_tokens": dropped} if dropped else usage

    def _stop(self, choice: Choice) -> dict[str, Any]:
        """Return why the answer ended."""
        reason = {"tool_calls": "tool_use", "length": "max_tokens"}.get(
            choice.finish_reason, "end_turn"
        )
        stopped_at = choice.completion.generation.stopped_at
        if reason == "end_turn" and stopped_at:
            reason = "stop_sequence"
        return {"stop_reason": reason, "stop_sequence": stopped_at}

    def whole(self, choices: Choices) -> dict[str, Any]:
        choice = choices.all[0]
        content: list[dict[str, Any]] = []
        if choice.thought:
            content.append({"type": "thinking", "thinking": choice.thought, "signature": ""})
        if choice.text or not choice.calls:
            content.append({"type": "text", "text": choice.text})
        content += [
            {**_use(call), "input": msgspec.json.decode(call.arguments)} for call in choice.calls
        ]
        ended = {**self._stop(choice), "usage": self._usage(choice)}
        return {**self._head, "content": content, **ended}

    async def stream(self, exchange: HttpExchange, choices: Choices) -> None:
        choice = choices.all[0]
        async for _, delta in choices.deltas():
            parts = choice.finish() if delta is None else choice.take(delta)
            if not self._begun:
                self._begun = True
                await self._begin(exchange, choice)
            await self._events(exchange, parts)
        await self._end(exchange, choice)

    async def _events(self, exchange: HttpExchange, parts: Sequence[OutputPart]) -> None:
        """Send what has come."""
        for part in parts:
            if isinstance(part, Call):
                await self._open_block(exchange, {**_use(part), "input": {}})
                await self._delta(
                    exchange, {"type": "input_json_delta", "partial_json": part.arguments}
                )
            elif isinstance(part, Thought):
                empty = {"type": "thinking", "thinking": "", "signature": ""}
                await self._go_on_in(exchange, empty)
                await self._delta(exchange, {"type": "thinking_delta", "thinking": part.text})
            elif part:
                await self._go_on_in(exchange, {"type": "text", "text": ""})
                await self._delta(exchange, {"type": "text_delta", "text": part})

    async def _go_on_in(self, exchange: HttpExchange, empty: dict[str, Any]) -> None:
        """Let a block of that kind be open."""
        if self._kind != empty["type"]:
            await self._open_block(exchange, empty)

    async def _end(self, exchange: HttpExchange, choice: Choice) -> None:
        """Send the end of the answer."""
        await self._close_block(exchange)
        ended = {"delta": self._stop(choice), "usage": self._usage(choice)}
        event = {"type": "message_delta", **ended}
        await exchange.event(event, "message_delta")
        await exchange.event({"type": "message_stop"}, "message_stop")
        await exchange.end_events()

    async def _begin(self, exchange: HttpExchange, choice: Choice) -> None:
        await exchange.begin_events(dropped_header([self._prompt]))
        usage = {**self._usage(choice), "output_tokens": 0}
        empty: dict[str, Any] = {
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage,
        }
        event = {"type": "message_start", "message": {**self._head, **empty}}
        await exchange.event(event, "message_start")

    async def _open_block(self, exchange: HttpExchange, block: dict[str, Any]) -> None:
        await self._close_block(exchange)
        self._index += 1
        self._kind = block["type"]
        event = {"type": "content_block_start", "index": self._index, "content_block": block}
        await exchange.event(event, "content_block_start")

    async def _delta(self, exchange: HttpExchange, delta: dict[str, str]) -> None:
        event = {"type": "content_block_delta", "index": self._index, "delta": delta}
        await exchange.event(event, "content_block_delta")

    async def _close_block(self, exchange: HttpExchange) -> None:
        if self._kind == "thinking":
            # Clients send it back; nothing here checks it.
            await self._delta(exchange, {"type": "signature_delta", "signature": ""})
        if self._index >= 0:
            event = {"type": "content_block_stop", "index": self._index}
            await exchange.event(event, "content_block_stop")


def _use(call: Call) -> dict[str, Any]:
    return {"type": "tool_use", "id": call.call_id.replace("call", "toolu", 1), "name": call.name}
