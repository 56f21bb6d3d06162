"""Completions on their way out, whole or as a stream, and what the headers report of prompts."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, Protocol

from tonnage.server.generation.choices import Choices
from tonnage.server.http.exchange import JSON, HttpExchange
from tonnage.server.models.service import PreparedRequest, Prompt, RequestParameters, Service


class Writer(Protocol):
    """Writes one request's completions in the words of an API."""

    def whole(self, choices: Choices) -> dict[str, Any]:
        """Return ended completions as an object."""
        ...

    async def stream(self, exchange: HttpExchange, choices: Choices) -> None:
        """Send completions as they come, to their end."""
        ...


async def deliver(
    service: Service, exchange: HttpExchange, prepared: PreparedRequest, writer: Writer
) -> None:
    """Answer a request, whole or as a stream. Raises HttpError 429 without memory for it."""
    if prepared.is_stream:
        async with service.answering(prepared, exchange.trace) as choices:
            await writer.stream(exchange, choices)
    else:
        headers = dropped_header(prepared.prompts)
        async with signs_of_life(exchange, prepared.parameters, headers):
            whole = await service.whole(prepared, exchange.trace, writer.whole)
        await exchange.whole(whole, JSON, headers=headers)


def signs_of_life(
    exchange: HttpExchange, parameters: RequestParameters, headers: Mapping[str, str] | None = None
) -> AbstractAsyncContextManager[None]:
    """Send white space while a whole answer is made, unless a deadline may still refuse it."""
    if parameters.deadline_s is not None:
        return nullcontext()
    return exchange.white_space(headers)


def dropped_header(prompts: Sequence[Prompt]) -> dict[str, str]:
    """Return the header that counts dropped tokens, if there are any."""
    dropped = sum(prompt.dropped_tokens for prompt in prompts)
    return {"x-tonnage-dropped-tokens": str(dropped)} if dropped else {}
