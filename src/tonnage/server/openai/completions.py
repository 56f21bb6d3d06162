"""POST /v1/completions, /tokenize and /detokenize."""

import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from sys import getsizeof
from typing import Any

import msgspec

from tonnage.server.generation.call_formats import fresh_id
from tonnage.server.generation.choices import Choice, Choices
from tonnage.server.generation.conversation import prompt_end, turns_of
from tonnage.server.generation.delivery import deliver, dropped_header
from tonnage.server.generation.logprobs import TextLogprobs
from tonnage.server.http.decoding import decode
from tonnage.server.http.exchange import HttpExchange
from tonnage.server.http.failures import HttpError
from tonnage.server.models.service import PreparedRequest, Service, options_of, usage_of
from tonnage.server.models.tenants import Tenant
from tonnage.server.openai.forms import form_of
from tonnage.server.openai.schema import CompletionRequest, DetokenizeRequest, TokenizeRequest
from tonnage.text.tokenizer import Tokenizer

_MAX_PROMPTS = 64
# Their texts may be of a hundred characters each.
_TOKENS_AT_ONCE = 64
# An echoed prompt: the text, with an answer behind it, as JSON, and as that is put together.
_ECHO_COPIES = 4


async def complete(service: Service, exchange: HttpExchange, tenant: Tenant, body: bytes) -> None:
    """Continue one text or several, whole or as a stream of chunks."""
    prepared, num_top, echoes = await exchange.prepared(lambda: _prepared(service, tenant, body))
    await deliver(service, exchange, prepared, _Writer(service, prepared, num_top, echoes))


async def _prepared(
    service: Service, tenant: Tenant, body: bytes
) -> tuple[PreparedRequest, int | None, list[str]]:
    """Return what is asked for, how many alternatives are shown, and what each text begins with."""
    request = decode(CompletionRequest, body)
    _refuse_unknown(request)
    given = _prompts(request.prompt)
    prompts = [
        service.fit(await service.encode_text(one), request.truncation, request.max_tokens)
        for one in given
    ]
    form = form_of(request, request.response_format)
    constraint = await service.aside(lambda: service.structured.of_form(form))
    options = options_of(
        request,
        max_tokens=request.max_tokens,
        logprobs=request.logprobs,
        constraint=constraint,
    )
    if request.echo:
        options = replace(options, prompt_logprobs=request.logprobs)
    num_each = request.n or 1
    most_bytes = service.response_memory.answers.capacity_bytes // (
        num_each * len(given) * _ECHO_COPIES
    )
    echoes = [""] * len(given)
    if request.echo:
        texts = (p.tokens if p.dropped_tokens else g for p, g in zip(prompts, given, strict=True))
        echoes = [_echo(service, text, most_bytes) for text in texts]
    prepared = PreparedRequest(
        prompts,
        options,
        service.parameters(request, tenant),
        num_each=num_each,
        is_stream=bool(request.stream),
        with_usage=bool(request.stream_options and request.stream_options.include_usage),
        extra_bytes=num_each * _ECHO_COPIES * sum(getsizeof(text) for text in echoes if text),
    )
    return prepared, request.logprobs, echoes


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


def _echo(service: Service, prompt: str | Sequence[int], most_bytes: int) -> str:
    """Return the text of a prompt. Raises HttpError 400 where it takes more than `most_bytes`."""
    if isinstance(prompt, str):
        parts = [prompt]
        num_bytes = getsizeof(prompt)
    else:
        parts, num_bytes = [], 0
        for part in service.engine.tokenizer.decoded(prompt):
            parts.append(part)
            num_bytes += getsizeof(part)
            if num_bytes > most_bytes:
                break
    if num_bytes > most_bytes:
        raise HttpError(
            400,
            f"The prompt is echoed in every answer, and has over {most_bytes:,} bytes; leave echo "
            "out, or ask for fewer answers.",
            param="echo",
        )
    return "".join(parts)


class _Writer:
    """Writes one request's answers as OpenAI's objects."""

    def __init__(
        self,
        service: Service,
        prepared: PreparedRequest,
        num_top: int | None,
        echoes: Sequence[str],
    ) -> None:
        self._tokenizer = service.engine.tokenizer
        self._request = prepared
        self._num_top = num_top
        self._echoes = echoes
        self._logprobs_of: dict[int, TextLogprobs] = {}
        self._common = {
            "id": fresh_id("cmpl"),
            "object": "text_completion",
            "created": int(time.time()),
            "model": service.name,
            "system_fingerprint": None,
        }

    def _echo(self, index: int) -> str:
        return self._echoes[index // self._request.num_each]

    def _choice(
        self, index: int, text: str, logprobs: dict[str, Any] | None, reason: str | None
    ) -> dict[str, Any]:
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}

    def _logprobs(self, index: int, choice: Choice) -> dict[str, Any] | None:
        """Return the log probabilities that were not sent yet."""
        if self._num_top is None:
            return None
        writer = self._logprobs_of.get(index)
        if writer is None:
            with_prompt = self._request.options.prompt_logprobs is not None
            prompt = self._request.prompts[index // self._request.num_each].tokens
            writer = self._logprobs_of[index] = TextLogprobs(
                self._tokenizer,
                self._num_top,
                prompt if with_prompt else (),
                len(self._echo(index)),
            )
        return writer.write(choice.take_logprobs())

    def whole(self, choices: Choices) -> dict[str, Any]:
        shown = [
            self._choice(
                index,
                self._echo(index) + choice.text,
                self._logprobs(index, choice),
                choice.finish_reason,
            )
            for index, choice in enumerate(choices.all)
        ]
        return {**self._common, "choices": shown, "usage": usage_of(self._request.prompts, choices)}

    async def stream(self, exchange: HttpExchange, choices: Choices) -> None:
        begun = [False] * len(choices.all)
        async for index, delta in choices.deltas():
            choice = choices.all[index]
            text = "".join(
                part
                for part in (choice.finish() if delta is None else choice.take(delta))
                if isinstance(part, str)
            )
            if not exchange.started:
                await exchange.begin_events(dropped_header(self._request.prompts))
            if not begun[index]:
                begun[index] = True
                text = self._echo(index) + text
            if not text and delta is not None and not delta.prompt_logprobs:
                continue
            logprobs = self._logprobs(index, choice)
            reason = choice.finish_reason if delta is None else None
            item = self._choice(index, text, logprobs, reason)
            await exchange.event({**self._common, "choices": [item]})
        if self._request.with_usage:
            usage = usage_of(self._request.prompts, choices)
            await exchange.event({**self._common, "choices": [], "usage": usage})
        await exchange.done()
        await exchange.end_events()


async def tokenize(service: Service, exchange: HttpExchange, tenant: Tenant, body: bytes) -> None:
    """Return the token ids of a text or of a conversation."""
    tokens, with_pieces = await exchange.prepared(lambda: _tokens(service, body))
    tokenizer, context = service.engine.tokenizer, service.context_tokens
    parts = [
        _list(b'{"tokens":[', tokens, list),
        [b'],"count":%d,"max_model_len":%d' % (len(tokens), context)],
    ]
    if with_pieces:
        parts.append(_list(b',"pieces":[', tokens, lambda part: _pieces(tokenizer, part)))
        parts.append([b"]"])
    await exchange.parts(chain(*parts, [b"}"]), tokens.itemsize * len(tokens))


async def _tokens(service: Service, body: bytes) -> "tuple[array[int], bool]":
    """Return the token ids of what is to be counted, and whether their texts are wanted too."""
    request = decode(TokenizeRequest, body)
    if (request.content is None) == (request.messages is None):
        raise HttpError(400, "Give either content or messages.", param="content")
    if request.messages is not None:
        end = prompt_end(
            adds=request.add_generation_prompt, continues=request.continue_final_message
        )
        tokens = await service.encode_chat(turns_of(request.messages), **end)
        return tokens, request.with_pieces
    text, encode = request.content or "", service.engine.tokenizer.encode
    special, parse = request.add_special, request.parse_special
    tokens = await service.aside(
        lambda: array("i", encode(text, add_special=special, parse_special=parse))
    )
    return tokens, request.with_pieces


def _list(
    head: bytes, tokens: "array[int]", written: "Callable[[array[int]], list[Any]]"
) -> Iterator[bytes]:
    """Yield a list of JSON without its last bracket, some tokens of it at a time."""
    yield head
    for begin in range(0, len(tokens), _TOKENS_AT_ONCE):
        part = msgspec.json.encode(written(tokens[begin : begin + _TOKENS_AT_ONCE]))
        yield b"," * (begin > 0) + part[1:-1]


def _pieces(tokenizer: Tokenizer, tokens: Sequence[int]) -> list[str]:
    return [tokenizer.token_bytes(token).decode("utf-8", "replace") for token in tokens]


async def detokenize(service: Service, exchange: HttpExchange, tenant: Tenant, body: bytes) -> None:
    """Return the text of token ids, control tokens included."""

    async def given() -> "array[int]":
        tokens, size = decode(DetokenizeRequest, body).tokens, service.engine.tokenizer.num_ids
        wrong = next((token for token in tokens if not 0 <= token < size), None)
        if wrong is not None:
            raise HttpError(
                400, f"Token id {wrong} is outside the vocabulary of {size:,}.", param="tokens"
            )
        return array("i", tokens)

    tokens = await exchange.prepared(given)
    text = _text(service.engine.tokenizer, tokens)
    again = _text(service.engine.tokenizer, tokens)
    parts = chain([b'{"content":"'], text, [b'","prompt":"'], again, [b'"}'])
    await exchange.parts(parts, tokens.itemsize * len(tokens))


def _text(tokenizer: Tokenizer, tokens: Sequence[int]) -> Iterator[bytes]:
    """Yield the text of tokens as it stands between the quotes of JSON."""
    for part in tokenizer.decoded(tokens, keep_control=True):
        yield msgspec.json.encode(part)[1:-1]
