"""What every interface needs: prompts out of messages, answers from the engine, what they cost."""

import asyncio
import time
from array import array
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar, Unpack

import msgspec

from tonnage.core.errors import ContextLengthError, RequestError
from tonnage.core.footprint import responses_bytes
from tonnage.core.pooling import Pooling
from tonnage.core.record import record
from tonnage.core.sampling import SamplingOptions
from tonnage.engine.embedding import Embedding
from tonnage.engine.prompts import PromptEnd
from tonnage.server.generation.call_formats import control_marks
from tonnage.server.generation.chat_prompts import ChatPrompts
from tonnage.server.generation.choices import Choice, Choices
from tonnage.server.generation.conversation import Turns
from tonnage.server.generation.engine import AsyncEngine, ServedEngine
from tonnage.server.generation.reasoning import ReasoningStart
from tonnage.server.generation.structured import MakeConstraint, StructuredOutput
from tonnage.server.generation.tool_use import NO_CALLS, CallRules
from tonnage.server.http.exchange import ServerLimits
from tonnage.server.http.failures import HttpError
from tonnage.server.models.response_memory import (
    ANSWER_BYTES,
    INPUT_BYTES,
    INPUT_TOKEN_BYTES,
    PROMPT_TOKEN_BYTES,
    ResponseMemory,
)
from tonnage.server.models.tenants import Tenant
from tonnage.server.observe.activity import Observer
from tonnage.server.observe.metrics import Metrics
from tonnage.server.observe.trace import Trace
from tonnage.server.openai.schema import RequestFields, Sampling

Result = TypeVar("Result")
_SAME_NAMES = (
    "temperature", "top_p", "presence_penalty", "frequency_penalty", "top_k", "min_p",
    "repetition_penalty", "ignore_eos",
)  # fmt: skip


@record
class Prompt:
    """Token ids of a prompt, and how many were dropped from its middle because it was asked for."""

    tokens: "array[int]"
    dropped_tokens: int = 0


@record
class RequestParameters:
    """How a request is to be served."""

    tenant: Tenant
    priority: int = 0
    deadline_s: float | None = None
    cache_salt: str = ""


@record
class PreparedRequest:
    """What is left of a request when its prompts are tokens: nothing of its body's size.

    num_each: answers to each prompt. call_rules: what of an answer is a call. extra_bytes: of texts
    that go into the answer. with_usage: a stream ends with it. reasoning: whether an answer begins
    with what the model thinks.
    """

    prompts: Sequence[Prompt]
    options: SamplingOptions
    parameters: RequestParameters
    num_each: int = 1
    call_rules: CallRules = NO_CALLS
    is_stream: bool = False
    with_usage: bool = False
    extra_bytes: int = 0
    reasoning: ReasoningStart = "never"

    @property
    def held_bytes(self) -> int:
        """What the answers hold beside what the engine plans for."""
        num_tokens = sum(len(prompt.tokens) for prompt in self.prompts)
        each = len(self.prompts) * ANSWER_BYTES + num_tokens * PROMPT_TOKEN_BYTES
        return self.num_each * each + self.extra_bytes


class Service:
    """One model behind the interfaces."""

    def __init__(
        self,
        engine: ServedEngine,
        answers: AsyncEngine,
        names: Sequence[str],
        *,
        with_structured_output: bool,
        metrics: Metrics | None = None,
        response_memory: ResponseMemory | None = None,
    ) -> None:
        """engine: renders, encodes and has the ledger; answers: its asynchronous interface.

        names: what the model is called, the first in answers. with_structured_output: completions
        may have to fit a schema or a grammar.
        metrics: what was counted of it before. response_memory: for what answers hold, of all
        models of a server together.
        """
        self.engine = engine
        self.names = tuple(names)
        self.metrics = metrics or Metrics()
        self.observer = Observer(engine)
        self._prompts = ChatPrompts(engine)
        self.structured = StructuredOutput(engine, enabled=with_structured_output)
        self._answers = answers
        self.response_memory = response_memory or ResponseMemory(
            responses_bytes(ServerLimits().body_bytes)
        )
        # One thread: templates and the memory they may take are one request's at a time.
        self._worker = ThreadPoolExecutor(1, "prompts")

    @property
    def name(self) -> str:
        """What the model is called."""
        return self.names[0]

    @property
    def context_tokens(self) -> int:
        """Positions of a prompt and its answer."""
        return self.engine.plan.context_tokens

    async def aside(self, work: Callable[[], Result]) -> Result:
        """Return what `work` does in another thread, so that the answers go on.

        A cancelled caller waits for its end: until then its memory is taken.
        """
        future = asyncio.get_running_loop().run_in_executor(self._worker, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            _ = future.cancelled() or future.exception()  # no caller is left for it
            raise

    async def encode_chat(
        self,
        turns: Turns,
        tools: Sequence[Mapping[str, Any]] = (),
        variables: Mapping[str, Any] | None = None,
        **end: Unpack[PromptEnd],
    ) -> "array[int]":
        """Return the token ids of a conversation, with the tools where there are any.

        variables: more names for the template. end: what stands at the end. Raises
        ChatTemplateError, RequestError.
        """
        return await self.aside(lambda: self._prompts.encode(turns, tools, variables, **end))

    def reasoning_start(self, prompt: Prompt, options: SamplingOptions) -> ReasoningStart:
        """Return whether a completion begins with what the model thinks; a bound one does not."""
        return self._prompts.reasoning_start(prompt.tokens, options)

    async def encode_text(self, prompt: str | list[int]) -> "array[int]":
        """Return the token ids of a plain prompt. Raises RequestError."""
        return await self.aside(lambda: array("i", self.engine.encode_prompt(prompt, raw=True)))

    def fit(self, tokens: "array[int]", truncation: str | None, max_tokens: int | None) -> Prompt:
        """Return a prompt that leaves positions for a completion.

        truncation: None or `disabled` refuses what is too long, ContextLengthError; `middle` and
        `auto` drop tokens from the middle, so that max_tokens (256 if None, at most half of the
        context) fit behind.
        """
        context = self.context_tokens
        if len(tokens) < context:
            return Prompt(tokens)
        if truncation not in ("middle", "auto"):
            raise ContextLengthError(
                f"The prompt has {len(tokens):,} tokens and the context holds {context:,}, one of "
                "them for the answer; shorten it, or ask for truncation 'middle'."
            )
        kept = context - min(max_tokens or 256, context // 2)
        head = kept // 2
        dropped = len(tokens) - kept
        self.metrics.dropped_tokens += dropped
        return Prompt(tokens[:head] + tokens[len(tokens) - (kept - head) :], dropped)

    def parameters(self, request: RequestFields, tenant: Tenant) -> RequestParameters:
        """Return how a request is to be served; a tenant's own salt is always part of its salt."""
        salt = f"{tenant.salt}/{request.cache_salt}" if request.cache_salt else tenant.salt
        requested = request.priority or 0
        # Tenants may step back, but not push ahead.
        priority = tenant.priority + (min(requested, 0) if tenant.name else requested)
        return RequestParameters(tenant, priority, request.deadline_s, salt)

    @asynccontextmanager
    async def answering(self, prepared: PreparedRequest, trace: Trace) -> AsyncIterator[Choices]:
        """Give all answers that were asked for; leaving ends what still runs and counts it.

        trace: of the request that asks. Raises HttpError 429 when there is no memory for so many.
        """
        budget, num_bytes = self.response_memory.answers, prepared.held_bytes
        num_answers = prepared.num_each * len(prepared.prompts)
        budget.hold(num_bytes, is_one=num_answers == 1 and not prepared.extra_bytes)
        tenant, choices = prepared.parameters.tenant, Choices([])
        self.metrics.in_progress += 1
        try:
            tenant.admit(time.monotonic())
            choices.all += self._begun(prepared)
            generations = [choice.completion.generation for choice in choices.all]
            trace.answering(self.name, prepared.options, generations)
            yield choices
        finally:
            await choices.close()
            budget.release(num_bytes)
            self.metrics.in_progress -= 1
            self._count(choices, tenant)
            if choices.all:
                trace.answered([choice.completion.generation for choice in choices.all])

    async def whole(
        self, prepared: PreparedRequest, trace: Trace, write: Callable[[Choices], dict[str, Any]]
    ) -> bytes:
        """Return what `write` makes of the ended answers, as JSON; nothing else of them is kept."""
        async with self.answering(prepared, trace) as choices:
            await choices.complete()
            return msgspec.json.encode(write(choices))

    def _begun(self, prepared: PreparedRequest) -> Iterator[Choice]:
        """Yield all answers; nothing is computed before they are iterated."""
        parameters, options = prepared.parameters, prepared.options
        if prepared.call_rules.names:
            options = replace(options, shown=control_marks(self.engine.tokenizer))
        seed = options.resolved_seed()
        for prompt in prepared.prompts:
            for number in range(prepared.num_each):
                answer = self._answers.stream(
                    prompt.tokens,
                    replace(options, seed=(seed + number) % (1 << 64)),
                    priority=parameters.priority,
                    deadline_s=parameters.deadline_s,
                    tenant=parameters.tenant.name,
                    cache_salt=parameters.cache_salt,
                )
                yield Choice(
                    answer,
                    prepared.call_rules,
                    self.engine.tokenizer,
                    self.response_memory,
                    prepared.reasoning,
                )

    @asynccontextmanager
    async def embedding(
        self,
        prompts: Sequence[Sequence[int]],
        parameters: RequestParameters,
        *,
        pooling: Pooling | None,
        dimensions: int | None,
        written_bytes: int,
    ) -> AsyncIterator[AsyncIterator[Embedding]]:
        """Give the vector of each prompt; leaving ends what still runs and counts what was read.

        written_bytes: what is held of the answer until it is sent.
        """
        # Texts are queued as others are done, so many at once.
        width = min(len(prompts), 2 * self.engine.plan.concurrency)
        held_bytes = width * ANSWER_BYTES + sum(map(len, prompts)) * INPUT_TOKEN_BYTES
        held_bytes += len(prompts) * INPUT_BYTES + written_bytes
        self.response_memory.answers.hold(held_bytes, is_one=len(prompts) == 1)
        try:
            parameters.tenant.admit(time.monotonic())
        except HttpError:
            self.response_memory.answers.release(held_bytes)
            raise
        vectors = self._answers.embed_stream(
            prompts, pooling=pooling, dimensions=dimensions, priority=parameters.priority,
            deadline_s=parameters.deadline_s, tenant=parameters.tenant.name,
        )  # fmt: skip
        metrics = self.metrics
        metrics.in_progress += 1

        async def counted() -> AsyncIterator[Embedding]:
            async for one in vectors:
                metrics.embedded_inputs += 1
                metrics.embedded_tokens += one.num_tokens
                parameters.tenant.spend(one.num_tokens)
                yield one

        try:
            yield counted()
        finally:
            await vectors.aclose()
            self.response_memory.answers.release(held_bytes)
            metrics.in_progress -= 1

    def _count(self, choices: Choices, tenant: Tenant) -> None:
        metrics = self.metrics
        for choice in choices.all:
            one = choice.completion.generation
            metrics.prompt_tokens += len(one.prompt)
            metrics.cached_tokens += one.num_cached_tokens
            metrics.generated_tokens += len(one.tokens)
            tenant.spend(len(one.prompt) + len(one.tokens))
            if one.tokens:
                metrics.first_token.add(one.time_to_first_token_ns * 1e-9)
            if len(one.tokens) > 1:
                metrics.per_token.add(one.decode_ns * 1e-9 / (len(one.tokens) - 1))
            if one.finish_reason is None:
                metrics.cancelled += 1

    def close(self) -> None:
        """End the thread of prompts."""
        self._worker.shutdown(cancel_futures=True)


def options_of(
    request: Sampling,
    *,
    max_tokens: int | None,
    logprobs: int | None = None,
    constraint: MakeConstraint | None = None,
) -> SamplingOptions:
    """Return how an answer is drawn. Raises RequestError for what is out of range."""
    values: dict[str, Any] = {"max_tokens": max_tokens, "logprobs": logprobs}
    values["constraint"] = constraint
    values |= {
        name: getattr(request, name) for name in _SAME_NAMES if getattr(request, name) is not None
    }
    if request.stop is not None:
        stops = [request.stop] if isinstance(request.stop, str) else request.stop
        values["stop"] = tuple(stops)
    if request.seed is not None:
        values["seed"] = request.seed
    if request.logit_bias:
        values["logit_bias"] = {_token_id(key): v for key, v in request.logit_bias.items()}
    return SamplingOptions(**values)


def _token_id(text: str) -> int:
    if not text.isdecimal() or not text.isascii() or len(text) > 9:
        raise RequestError(f"logit_bias names {text[:40]!r}; its keys are token ids.")
    return int(text)


def usage_of(prompts: Sequence[Prompt], choices: Choices) -> dict[str, Any]:
    """Return OpenAI's `usage`; dropped_tokens is ours."""
    num_prompt = sum(len(prompt.tokens) for prompt in prompts)
    generations = [choice.completion.generation for choice in choices.all]
    num_generated = sum(len(one.tokens) for one in generations)
    # Of answers to one prompt the first counts: the others find what it has computed.
    firsts = generations[:: len(generations) // len(prompts)] if generations else []
    cached = sum(one.num_cached_tokens for one in firsts)
    details = {"cached_tokens": cached}
    dropped = sum(prompt.dropped_tokens for prompt in prompts)
    if dropped:
        details["dropped_tokens"] = dropped
    thought = {"reasoning_tokens": sum(choice.num_reasoning_tokens for choice in choices.all)}
    return {
        "prompt_tokens": num_prompt,
        "completion_tokens": num_generated,
        "total_tokens": num_prompt + num_generated,
        "prompt_tokens_details": details,
        "completion_tokens_details": thought,
    }
