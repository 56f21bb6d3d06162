"""A completion as /v1/responses gives it, whole and as events.

Specification: platform.openai.com/docs/api-reference/responses-streaming.
"""

from collections.abc import Callable, Sequence
from typing import Any

from tonnage.core.record import record
from tonnage.server.generation.call_formats import Call, fresh_id
from tonnage.server.generation.choices import Choices, OutputPart
from tonnage.server.generation.delivery import dropped_header
from tonnage.server.generation.reasoning import Thought
from tonnage.server.http.exchange import HttpExchange
from tonnage.server.models.service import PreparedRequest, usage_of


class ResponseWriter:
    """Writes one completion as a response and its events."""

    def __init__(self, base: dict[str, Any], prepared: PreparedRequest) -> None:
        """base: what does not depend on the completion."""
        self._request = prepared
        self._output: list[dict[str, Any]] = []
        self._open: dict[str, Any] | None = None  # the item that text goes to
        self._number = 0
        self._base = base

    def whole(self, choices: Choices) -> dict[str, Any]:
        """Return the response to which an ended completion came."""
        choice = choices.all[0]
        if choice.thought:
            self._output.append(_reasoning(fresh_id("rs"), choice.thought))
        if choice.text or not choice.calls:
            self._output.append(_message(fresh_id("msg"), choice.text))
        self._output += [_call_item(call) for call in choice.calls]
        return self._response(choices)

    async def stream(self, exchange: HttpExchange, choices: Choices) -> None:
        """Send the events of a completion to its end."""
        choice = choices.all[0]
        async for _, delta in choices.deltas():
            await self._events(exchange, choice.finish() if delta is None else choice.take(delta))
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
                "output_tokens_details": usage["completion_tokens_details"],
                "total_tokens": usage["total_tokens"],
            },
        }

    async def _event(self, exchange: HttpExchange, event: str, /, **fields: Any) -> None:
        await exchange.event({"type": event, "sequence_number": self._number, **fields}, event)
        self._number += 1

    async def _events(self, exchange: HttpExchange, parts: Sequence[OutputPart]) -> None:
        """Send what has come."""
        if not self._number:
            await exchange.begin_events(dropped_header(self._request.prompts))
            begun = {**self._base, "status": "in_progress", "output": [], "usage": None}
            for name in ("response.created", "response.in_progress"):
                await self._event(exchange, name, response=begun)
        for part in parts:
            if isinstance(part, Call):
                await self._close_item(exchange)
                await self._whole_call(exchange, part)
            elif isinstance(part, Thought):
                await self._text(exchange, _REASONING, part.text)
            elif part:
                await self._text(exchange, _MESSAGE, part)

    async def _text(self, exchange: HttpExchange, kind: "_Kind", text: str) -> None:
        if self._open is not None and self._open["type"] != kind.type:
            await self._close_item(exchange)
        if self._open is None:
            self._open = {**kind.item(fresh_id(kind.prefix), ""), "status": "in_progress"}
            await self._event(
                exchange,
                "response.output_item.added",
                output_index=len(self._output),
                item={**self._open, "content": []},
            )
            if kind is _MESSAGE:
                await self._event(
                    exchange, "response.content_part.added", **self._place(), part=_part("")
                )
        self._open["content"][0]["text"] += text
        more: dict[str, Any] = {"logprobs": []} if kind is _MESSAGE else {}
        await self._event(exchange, f"{kind.event}.delta", **self._place(), delta=text, **more)

    def _place(self) -> dict[str, Any]:
        assert self._open is not None
        return {"item_id": self._open["id"], "output_index": len(self._output), "content_index": 0}

    async def _close_item(self, exchange: HttpExchange) -> None:
        """Send the end of the text that is open, if one is."""
        if self._open is None:
            return
        text, place = self._open["content"][0]["text"], self._place()
        kind = _MESSAGE if self._open["type"] == _MESSAGE.type else _REASONING
        more: dict[str, Any] = {"logprobs": []} if kind is _MESSAGE else {}
        await self._event(exchange, f"{kind.event}.done", **place, text=text, **more)
        if kind is _MESSAGE:
            await self._event(exchange, "response.content_part.done", **place, part=_part(text))
        await self._item_done(exchange, kind.item(self._open["id"], text))
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
        await self._close_item(exchange)
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


def _reasoning(item_id: str, text: str) -> dict[str, Any]:
    return {
        "id": item_id,
        "type": "reasoning",
        "status": "completed",
        "summary": [],
        "content": [{"type": "reasoning_text", "text": text}],
        "encrypted_content": None,
    }


@record
class _Kind:
    """A kind of item that holds a text: its type, its ids, its events, and how it is made."""

    type: str
    prefix: str
    event: str
    item: Callable[[str, str], dict[str, Any]]


_MESSAGE = _Kind("message", "msg", "response.output_text", _message)
_REASONING = _Kind("reasoning", "rs", "response.reasoning_text", _reasoning)
