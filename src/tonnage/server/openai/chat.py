"""POST /v1/chat/completions."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from tonnage.server.generation.call_formats import Call, fresh_id
from tonnage.server.generation.choices import Choice, Choices, OutputPart
from tonnage.server.generation.conversation import prompt_end, turns_of
from tonnage.server.generation.delivery import deliver, dropped_header
from tonnage.server.generation.logprobs import chat_logprobs
from tonnage.server.generation.reasoning import Thought, template_variables
from tonnage.server.generation.tool_use import ToolUse, tool_use
from tonnage.server.http.decoding import decode
from tonnage.server.http.exchange import HttpExchange
from tonnage.server.http.failures import HttpError
from tonnage.server.models.service import PreparedRequest, Service, options_of, usage_of
from tonnage.server.models.tenants import Tenant
from tonnage.server.openai.forms import form_of
from tonnage.server.openai.schema import ChatRequest
from tonnage.server.openai.tool_choice import choice_of
from tonnage.server.openai.unsupported import require_nothing_kept


async def chat(service: Service, exchange: HttpExchange, tenant: Tenant, body: bytes) -> None:
    """Answer a conversation, whole or as a stream of chunks."""
    prepared, num_top = await exchange.prepared(lambda: _prepared(service, tenant, body))
    await deliver(service, exchange, prepared, _Writer(service, prepared, num_top))


async def _prepared(
    service: Service, tenant: Tenant, body: bytes
) -> tuple[PreparedRequest, int | None]:
    """Return what is asked for, and how many alternatives are shown with log probabilities."""
    request = decode(ChatRequest, body)
    require_nothing_kept(request)
    use = tools_of(request)
    form = form_of(request, request.response_format)
    max_tokens = request.max_completion_tokens or request.max_tokens
    variables = template_variables(request.reasoning_effort, request.verbosity)
    variables |= request.chat_template_kwargs or {}
    end = prompt_end(adds=request.add_generation_prompt, continues=request.continue_final_message)
    tokens = await service.encode_chat(turns_of(request.messages), use.tools, variables, **end)
    prompt = service.fit(tokens, request.truncation, max_tokens)
    top = _num_top(request)
    constraint = await service.aside(lambda: service.structured.of_request(use, form))
    options = options_of(request, max_tokens=max_tokens, logprobs=top, constraint=constraint)
    prepared = PreparedRequest(
        [prompt],
        options,
        service.parameters(request, tenant),
        num_each=request.n or 1,
        call_rules=use.rules(service.engine.tokenizer, is_bound=form is not None),
        is_stream=bool(request.stream),
        with_usage=bool(request.stream_options and request.stream_options.include_usage),
        reasoning=service.reasoning_start(prompt, options),
    )
    return prepared, top


def _num_top(request: ChatRequest) -> int | None:
    """Return how many alternatives are shown, None without log probabilities."""
    num_top = request.top_logprobs or 0
    if num_top and not request.logprobs:
        raise HttpError(400, "top_logprobs needs logprobs.", param="top_logprobs")
    return num_top if request.logprobs else None


def tools_of(request: ChatRequest) -> ToolUse:
    """Return how the request's tools may be used. Raises HttpError 400 for what cannot be."""
    functions = [tool.function for tool in request.tools or ()]
    choice = choice_of(request.tool_choice)
    return tool_use(functions, choice, is_parallel=request.parallel_tool_calls)


class _Writer:
    """Writes one request's answers as OpenAI's objects."""

    def __init__(self, service: Service, prepared: PreparedRequest, num_top: int | None) -> None:
        self._service = service
        self._request = prepared
        self._num_top = num_top
        self._common = {
            "id": fresh_id("chatcmpl"),
            "created": int(time.time()),
            "model": service.name,
            "system_fingerprint": None,
        }

    def whole(self, choices: Choices) -> dict[str, Any]:
        items = [
            {
                "index": index,
                "message": _message(choice),
                "logprobs": self._logprobs(choice),
                "finish_reason": choice.finish_reason,
            }
            for index, choice in enumerate(choices.all)
        ]
        usage = usage_of(self._request.prompts, choices)
        return {**self._common, "object": "chat.completion", "choices": items, "usage": usage}

    def _logprobs(self, choice: Choice) -> dict[str, Any] | None:
        """Return the log probabilities that were not sent yet."""
        if self._num_top is None:
            return None
        tokenizer = self._service.engine.tokenizer
        return chat_logprobs(tokenizer, choice.take_logprobs(), self._num_top)

    async def stream(self, exchange: HttpExchange, choices: Choices) -> None:
        begun = [False] * len(choices.all)
        async for index, delta in choices.deltas():
            choice = choices.all[index]
            parts = choice.finish() if delta is None else choice.take(delta)
            if not exchange.started:
                await exchange.begin_events(dropped_header(self._request.prompts))
            if not begun[index]:
                begun[index] = True
                await self._chunk(exchange, index, {"role": "assistant", "content": ""})
            for message in _openai_deltas(choice, parts):
                await self._chunk(exchange, index, message, self._logprobs(choice))
            if delta is None:
                rest = self._logprobs(choice)
                await self._chunk(exchange, index, {}, rest, choice.finish_reason)
        if self._request.with_usage:
            usage = usage_of(self._request.prompts, choices)
            await exchange.event({**self._common, **_CHUNK, "choices": [], "usage": usage})
        await exchange.done()
        await exchange.end_events()

    async def _chunk(
        self,
        exchange: HttpExchange,
        index: int,
        delta: Mapping[str, Any],
        logprobs: Mapping[str, Any] | None = None,
        finish_reason: str | None = None,
    ) -> None:
        choice = {
            "index": index,
            "delta": delta,
            "logprobs": logprobs,
            "finish_reason": finish_reason,
        }
        await exchange.event({**self._common, **_CHUNK, "choices": [choice]})


_CHUNK = {"object": "chat.completion.chunk"}


def _message(choice: Choice) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": choice.text, "refusal": None}
    if choice.thought:
        message["reasoning_content"] = choice.thought
    if choice.calls:
        message["content"] = choice.text or None
        message["tool_calls"] = [_call(call) for call in choice.calls]
    return message


def _call(call: Call) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.call_id, "type": "function", "function": function}


def _openai_deltas(choice: Choice, parts: Sequence[OutputPart]) -> list[dict[str, Any]]:
    deltas: list[dict[str, Any]] = []
    number = len(choice.calls) - sum(isinstance(part, Call) for part in parts)
    for part in parts:
        if isinstance(part, Call):
            deltas.append({"tool_calls": [{"index": number, **_call(part)}]})
            number += 1
        elif isinstance(part, Thought):
            deltas.append({"reasoning_content": part.text})
        elif part:
            deltas.append({"content": part})
    return deltas
