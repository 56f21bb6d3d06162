"""POST /v1/completions, /tokenize and /detokenize."""

import time
from collections.abc import Sequence
from typing import Any

import msgspec

from tonnage.server.chat import dropped_header
from tonnage.server.choices import Choice, Choices, text_logprobs
from tonnage.server.conversation import turns_of
from tonnage.server.decoding import decode
from tonnage.server.exchange import Exchange
from tonnage.server.failures import HttpError
from tonnage.server.openai_schema import CompletionRequest, DetokenizeRequest, TokenizeRequest
from tonnage.server.service import Prompt, Service, options_of, usage_of
from tonnage.server.tenants import Tenant
from tonnage.server.tool_calls import fresh_id
from tonnage.text.tokenizer import Tokenizer

_MAX_PROMPTS = 64


async def complete(service: Service, exchange: Exchange, tenant: Tenant, body: bytes) -> None:
    """Continue one text or several, whole or as a stream of chunks."""
    request = decode(CompletionRequest, body)
    service.require_model(request.model)
    _refuse_unknown(request)
    given = _prompts(request.prompt)
    prompts = [
        service.fit(await service.encode_text(one), request.truncation, request.max_tokens)
        for one in given
    ]
    constraint = await service.aside(lambda: service.forms.of_format(request.response_format))
    options = options_of(
        request,
        max_tokens=request.max_tokens,
        logprobs=request.logprobs,
        constraint=constraint,
    )
    echoes = [_text(service, one) if request.echo else "" for one in given]
    writer = _Writer(service, prompts, request.logprobs, echoes, request.n or 1)
    order = service.order(request, tenant)
    async with service.answering(
        prompts, options, order, trace=exchange.trace, num_each=request.n or 1
    ) as choices:
        if request.stream:
            with_usage = bool(request.stream_options and request.stream_options.include_usage)
            await writer.stream(exchange, choices, with_usage=with_usage)
        else:
            await choices.complete()
            await exchange.json(writer.whole(choices), headers=dropped_header(prompts))


def _refuse_unknown(request: CompletionRequest) -> None:
    if request.suffix:
        raise HttpError(
            400, "suffix is not supported; put the whole prompt before.", param="suffix"
        )
    if request.best_of not in (None, 1, request.n):
        raise HttpError(400, "best_of is not supported; use n.", param="best_of")


def _prompts(prompt: str | list[str | int | list[int]]) -> list[str | list[int]]:
    """Return every prompt of a request. Raises HttpError 400 for texts and numbers mixed."""
    if isinstance(prompt, str):
        return [prompt]
    numbers = [one for one in prompt if isinstance(one, int)]
    if len(numbers) == len(prompt):
        return [numbers]
    if numbers:
        raise HttpError(400, "prompt mixes token ids with texts or lists.", param="prompt")
    if len(prompt) > _MAX_PROMPTS:
        raise HttpError(
            400, f"prompt has {len(prompt)} texts; at most {_MAX_PROMPTS}.", param="prompt"
        )
    return [one for one in prompt if not isinstance(one, int)]


def _text(service: Service, prompt: str | list[int]) -> str:
    return prompt if isinstance(prompt, str) else service.engine.tokenizer.decode(prompt)


class _Writer:
    """Writes one request's answers as OpenAI's objects."""

    def __init__(
        self,
        service: Service,
        prompts: Sequence[Prompt],
        num_top: int | None,
        echoes: Sequence[str],
        num_each: int,
    ) -> None:
        self._tokenizer = service.engine.tokenizer
        self._prompts = prompts
        self._num_top = num_top
        self._echoes = echoes
        self._num_each = num_each
        self._common = {
            "id": fresh_id("cmpl"),
            "object": "text_completion",
            "created": int(time.time()),
            "model": service.name,
            "system_fingerprint": None,
        }

    def _echo(self, index: int) -> str:
        return self._echoes[index // self._num_each]

    def _choice(
        self, index: int, text: str, logprobs: dict[str, Any] | None, reason: str | None
    ) -> dict[str, Any]:
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}

    def _logprobs(self, choice: Choice, offset: int) -> dict[str, Any] | None:
        """Return the log probabilities that were not sent yet."""
        if self._num_top is None:
            return None
        return text_logprobs(self._tokenizer, choice.take_logprobs(), self._num_top, offset)

    def whole(self, choices: Choices) -> dict[str, Any]:
        told = [
            self._choice(
                index,
                self._echo(index) + choice.text,
                self._logprobs(choice, len(self._echo(index))),
                choice.finish_reason,
            )
            for index, choice in enumerate(choices.all)
        ]
        return {**self._common, "choices": told, "usage": usage_of(self._prompts, choices)}

    async def stream(self, exchange: Exchange, choices: Choices, *, with_usage: bool) -> None:
        begun = [False] * len(choices.all)
        offsets = [len(self._echo(index)) for index in range(len(choices.all))]
        async for index, piece in choices.pieces():
            choice = choices.all[index]
            text = "".join(
                part
                for part in (choice.finish() if piece is None else choice.take(piece))
                if isinstance(part, str)
            )
            if not exchange.started:
                await exchange.begin_events(dropped_header(self._prompts))
            if not begun[index]:
                begun[index] = True
                text = self._echo(index) + text
            if not text and piece is not None:
                continue
            logprobs = self._logprobs(choice, offsets[index])
            if logprobs is not None:
                offsets[index] += sum(map(len, logprobs["tokens"]))
            reason = choice.finish_reason if piece is None else None
            told = self._choice(index, text, logprobs, reason)
            await exchange.event({**self._common, "choices": [told]})
        if with_usage:
            usage = usage_of(self._prompts, choices)
            await exchange.event({**self._common, "choices": [], "usage": usage})
        await exchange.done()
        await exchange.end_events()


async def tokenize(service: Service, exchange: Exchange, tenant: Tenant, body: bytes) -> None:
    """Return the token ids of a text or of a conversation."""
    request = decode(TokenizeRequest, body)
    if (request.content is None) == (request.messages is None):
        raise HttpError(400, "Give either content or messages.", param="content")
    tokenizer = service.engine.tokenizer
    if request.messages is not None:
        tokens = await service.encode_chat(turns_of(request.messages))
    else:
        text = request.content or ""
        tokens = await service.aside(
            lambda: tokenizer.encode(
                text, add_special=request.add_special, parse_special=request.parse_special
            )
        )
    answer: dict[str, Any] = {"tokens": tokens, "count": len(tokens)}
    answer["max_model_len"] = service.context_tokens
    if request.with_pieces:
        answer["pieces"] = _pieces(tokenizer, tokens)
    await exchange.json(answer)


def _pieces(tokenizer: Tokenizer, tokens: Sequence[int]) -> msgspec.Raw:
    """Return the texts of tokens as JSON; so many strings at once would take ten times as much."""
    encoded = [
        msgspec.json.encode(
            [tokenizer.token_bytes(token).decode("utf-8", "replace") for token in part]
        )
        for part in (tokens[begin : begin + 4096] for begin in range(0, len(tokens), 4096))
    ]
    return msgspec.Raw(b"[" + b",".join(part[1:-1] for part in encoded) + b"]")


async def detokenize(service: Service, exchange: Exchange, tenant: Tenant, body: bytes) -> None:
    """Return the text of token ids, control tokens included."""
    tokens = decode(DetokenizeRequest, body).tokens
    tokenizer = service.engine.tokenizer
    text = await service.aside(lambda: tokenizer.decode(tokens, keep_control=True))
    await exchange.json({"content": text, "prompt": text})
