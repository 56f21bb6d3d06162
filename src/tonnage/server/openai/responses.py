"""POST /v1/responses. Nothing is stored: every request brings its whole conversation."""

import logging
import time
from typing import Any

import msgspec

from tonnage.server.generation.call_formats import Call, fresh_id
from tonnage.server.generation.choices import Choices
from tonnage.server.generation.delivery import deliver, dropped_header
from tonnage.server.generation.tool_use import ToolUse, tool_use
from tonnage.server.http.decoding import decode
from tonnage.server.http.exchange import HttpExchange
from tonnage.server.models.service import PreparedRequest, Service, options_of, usage_of
from tonnage.server.models.tenants import Tenant
from tonnage.server.observe.log import log
from tonnage.server.openai.forms import form_of
from tonnage.server.openai.response_input import (
    function_tools,
    functions_of,
    require_nothing_stored,
    skipped_types,
    turns_of_input,
)
from tonnage.server.openai.schema import (
    Reasoning,
    ResponseRequest,
    TextSettings,
    ToolChoices,
)
from tonnage.server.openai.tool_choice import choice_of


async def respond(service: Service, exchange: HttpExchange, tenant: Tenant, body: bytes) -> None:
    """Answer the input, whole or as a stream of events."""
    prepared, base = await exchange.prepared(lambda: _prepared(service, tenant, body))
    await deliver(service, exchange, prepared, _Writer(base, prepared))


async def _prepared(
    service: Service, tenant: Tenant, body: bytes
) -> tuple[PreparedRequest, dict[str, Any]]:
    """Return what is asked for, and what every response to it says."""
    request = decode(ResponseRequest, body)
    require_nothing_stored(request)
    use = _tool_use(request)
    tokens = await service.encode_chat(turns_of_input(request), use.tools)
    prompt = service.fit(tokens, request.truncation, request.max_output_tokens)
    asked = request.text.format if request.text is not None else None
    form = form_of(request, asked, "text.format")
    constraint = await service.aside(lambda: service.structured.of_request(use, form))
    options = options_of(request, max_tokens=request.max_output_tokens, constraint=constraint)
    parameters = service.parameters(request, tenant)
    rules = use.rules(is_bound=form is not None)
    prepared = PreparedRequest(
        [prompt], options, parameters, call_rules=rules, is_stream=bool(request.stream)
    )
    return prepared, _base(service.name, request)


def _base(model: str, request: ResponseRequest) -> dict[str, Any]:
    """Return what does not depend on the completion; what came with the request stays JSON."""
    told = {
        "id": fresh_id("resp"),
        "object": "response",
        "created_at": int(time.time()),
        "model": model,
        "error": None,
        "background": False,
        "conversation": None,
        "instructions": request.instructions,
        "max_output_tokens": request.max_output_tokens,
        "metadata": _json(request.metadata or {}),
        "parallel_tool_calls": request.parallel_tool_calls is not False,
        "previous_response_id": None,
        "prompt": None,
        "reasoning": request.reasoning or Reasoning(),
        "temperature": request.temperature,
        "top_p": request.top_p,
        "tool_choice": _told_choice(request.tool_choice),
        "tools": _json(function_tools(request)),
        "store": False,
        "text": _text_settings(request.text),
        "truncation": request.truncation or "disabled",
    }
    skipped = skipped_types(request)
    if skipped:
        names = ", ".join(skipped)
        log(logging.INFO, f"Tools and items of types that are not known were left out: {names}.")
        told["skipped_types"] = skipped
    return told


def _json(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def _told_choice(choice: ToolChoices | None) -> Any:
    """Return the choice of a request as it was written."""
    if choice is None or isinstance(choice, str):
        return choice or "auto"
    return {"type": choice.type, **msgspec.to_builtins(choice)}


def _text_settings(text: TextSettings | None) -> dict[str, Any]:
    """Return how the text was to be, as the request wrote it."""
    form = text.format if text is not None else None
    told: dict[str, Any] = {"type": "text" if form is None else form.type}
    if form is not None and form.type == "json_schema":
        told |= {"name": form.name, "description": form.description, "strict": form.strict}
        told["schema"] = _json(form.json_schema if form.schema is None else form.schema)
    settings: dict[str, Any] = {"format": told}
    if text is not None and text.verbosity is not None:
        settings["verbosity"] = text.verbosity
    return settings


def _tool_use(request: ResponseRequest) -> ToolUse:
    choice = choice_of(request.tool_choice)
    functions = functions_of(request)
    return tool_use(functions, choice, is_parallel=request.parallel_tool_calls)


class _Writer:
    """Writes one answer as a response and its events."""

    def __init__(self, base: dict[str, Any], prepared: PreparedRequest) -> None:
        self._request = prepared
        self._output: list[dict[str, Any]] = []
        self._open: dict[str, Any] | None = None  # the message that text goes to
        self._number = 0
        self._base = base

    def whole(self, choices: Choices) -> dict[str, Any]:
        choice = choices.all[0]
        if choice.text or not choice.calls:
            self._output.append(_message(fresh_id("msg"), choice.text))
        self._output += [_call_item(call) for call in choice.calls]
        return self._response(choices)

    async def stream(self, exchange: HttpExchange, choices: Choices) -> None:
        choice = choices.all[0]
        async for _, piece in choices.pieces():
            await self._events(exchange, choice.finish() if piece is None else choice.take(piece))
        await self._end(exchange, choices)

    def _response(self, choices: Choices) -> dict[str, Any]:
        """Return the response to which an ended answer came."""
        usage = usage_of(self._request.prompts, choices)
        cut = choices.all[0].finish_reason == "length"
        details = {"reason": "max_output_tokens"} if cut else None
        return {
            **self._base,
            "status": "incomplete" if cut else "completed",
            "incomplete_details": details,
            "output": self._output,
            "usage": {
                "input_tokens": usage["prompt_tokens"],
                "input_tokens_details": usage["prompt_tokens_details"],
                "output_tokens": usage["completion_tokens"],
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": usage["total_tokens"],
            },
        }

    async def _event(self, exchange: HttpExchange, event: str, /, **told: Any) -> None:
        await exchange.event({"type": event, "sequence_number": self._number, **told}, event)
        self._number += 1

    async def _events(self, exchange: HttpExchange, parts: list[str | Call]) -> None:
        """Send what has come."""
        if not exchange.started:
            await exchange.begin_events(dropped_header(self._request.prompts))
            begun = {**self._base, "status": "in_progress", "output": [], "usage": None}
            for name in ("response.created", "response.in_progress"):
                await self._event(exchange, name, response=begun)
        for part in parts:
            if isinstance(part, Call):
                await self._close_message(exchange)
                await self._whole_call(exchange, part)
            elif part:
                await self._text(exchange, part)

    async def _text(self, exchange: HttpExchange, text: str) -> None:
        if self._open is None:
            self._open = {**_message(fresh_id("msg"), ""), "status": "in_progress"}
            empty = {**self._open, "content": []}
            index = len(self._output)
            await self._event(
                exchange, "response.output_item.added", output_index=index, item=empty
            )
            await self._event(
                exchange, "response.content_part.added", **self._place(), part=_part("")
            )
        self._open["content"][0]["text"] += text
        await self._event(
            exchange, "response.output_text.delta", **self._place(), delta=text, logprobs=[]
        )

    def _place(self) -> dict[str, Any]:
        assert self._open is not None
        return {"item_id": self._open["id"], "output_index": len(self._output), "content_index": 0}

    async def _close_message(self, exchange: HttpExchange) -> None:
        if self._open is None:
            return
        text = self._open["content"][0]["text"]
        done = _message(self._open["id"], text)
        place = self._place()
        await self._event(exchange, "response.output_text.done", **place, text=text, logprobs=[])
        await self._event(exchange, "response.content_part.done", **place, part=_part(text))
        await self._item_done(exchange, done)
        self._open = None

    async def _item_done(self, exchange: HttpExchange, item: dict[str, Any]) -> None:
        index = len(self._output)
        await self._event(exchange, "response.output_item.done", output_index=index, item=item)
        self._output.append(item)

    async def _whole_call(self, exchange: HttpExchange, call: Call) -> None:
        item = _call_item(call)
        index = len(self._output)
        begun = {**item, "arguments": "", "status": "in_progress"}
        await self._event(exchange, "response.output_item.added", output_index=index, item=begun)
        name = "response.function_call_arguments"
        place = {"item_id": item["id"], "output_index": index}
        await self._event(exchange, f"{name}.delta", **place, delta=call.arguments)
        await self._event(
            exchange, f"{name}.done", **place, name=call.name, arguments=call.arguments
        )
        await self._item_done(exchange, item)

    async def _end(self, exchange: HttpExchange, choices: Choices) -> None:
        """Send the end of the answer."""
        await self._close_message(exchange)
        response = self._response(choices)
        await self._event(exchange, f"response.{response['status']}", response=response)
        await exchange.end_events()


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _message(item_id: str, text: str) -> dict[str, Any]:
    return {
        "id": item_id,
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [_part(text)],
    }


def _call_item(call: Call) -> dict[str, Any]:
    return {
        "id": fresh_id("fc"),
        "type": "function_call",
        "call_id": call.call_id,
        "name": call.name,
        "arguments": call.arguments,
        "status": "completed",
    }
