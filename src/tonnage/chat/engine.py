"""The engine that `from tonnage import Engine` gives: with chats, forms of text, and logits."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Unpack

from tonnage.core.errors import RequestError
from tonnage.core.sampling import SamplingOptions, SamplingOverrides
from tonnage.engine import engine
from tonnage.engine.expectation import OnSlowdown
from tonnage.engine.generation import Generation
from tonnage.engine.prompts import Message
from tonnage.engine.stream import CompletionStream

if TYPE_CHECKING:
    from array import array

    from tonnage.chat.completion import ChatCompletion
    from tonnage.chat.requests import Chats

ResponseFormat = Mapping[str, Any]


class Engine(engine.Engine):
    """A loaded model. Use `Engine.open`; `close` or a `with` gives the memory back."""

    def generate(
        self,
        prompt: str | Sequence[int] | Sequence[Message],
        options: SamplingOptions | None = None,
        *,
        raw: bool = False,
        on_slowdown: OnSlowdown | None = None,
        response_format: ResponseFormat | None = None,
        **overrides: Unpack[SamplingOverrides],
    ) -> Generation:
        """Return the completion as an iterable of text deltas; `str` of it runs it to its end.

        on_slowdown receives, during decoding, why this machine is slower than it was measured
        to be; each cause once in the engine's life.
        prompt: text (one user message; with raw=True the text itself), token ids, or messages with
        `role` and `content`. response_format: binds the text, as of `chat`. overrides: fields of
        SamplingOptions. Raises ContextLengthError when the prompt does not fit, RequestError for
        parameters out of range.
        """
        bound = self._bound(response_format, overrides)
        return super().generate(prompt, options, raw=raw, on_slowdown=on_slowdown, **bound)

    def stream(
        self,
        prompt: str | Sequence[int] | Sequence[Message],
        options: SamplingOptions | None = None,
        *,
        raw: bool = False,
        priority: int = 0,
        deadline_s: float | None = None,
        tenant: str = "",
        cache_salt: str = "",
        response_format: ResponseFormat | None = None,
        **overrides: Unpack[SamplingOverrides],
    ) -> CompletionStream:
        """Return the completion for an event loop: `async for` gives deltas, `await` the whole.

        prompt, options, raw, response_format, overrides: as in `generate`. A delta prints as its
        text; closing cancels. priority: higher goes first. deadline_s: from now on; after that the
        completion ends as it is. tenant: whose fair share it counts to. cache_salt: prefixes are
        shared between equal salts only. Raises like `generate`; what the scheduler refuses is
        raised from the iteration.
        """
        bound = self._bound(response_format, overrides)
        return super().stream(
            prompt, options, raw=raw, priority=priority, deadline_s=deadline_s, tenant=tenant,
            cache_salt=cache_salt, **bound,
        )  # fmt: skip

    def chat(
        self,
        messages: Sequence[Message],
        options: SamplingOptions | None = None,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: str | Mapping[str, Any] | None = None,
        parallel_tool_calls: bool | None = None,
        response_format: ResponseFormat | None = None,
        reasoning_effort: str | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        **overrides: Unpack[SamplingOverrides],
    ) -> "ChatCompletion":
        """Return the response to a conversation: its text, the tools it calls, what it thought.

        Everything before options has the meaning and the form that POST /v1/chat/completions gives
        it (docs/serving.md). messages: with `role` and `content`, of tools too. tools: functions
        with JSON schemas. response_format: `{"type": "json_object"}`, or `json_schema` with a
        schema, `regex`, `grammar`. overrides: fields of SamplingOptions.
        Needs the extra `serve`. A form that is bound takes memory for its tables, from what the
        plan leaves of the budget. Raises RequestError in the server's words for what cannot be
        obeyed, ContextLengthError for a conversation that does not fit.
        """
        stated = {
            "tools": tools,
            "tool_choice": tool_choice,
            "parallel_tool_calls": parallel_tool_calls,
            "response_format": response_format,
            "reasoning_effort": reasoning_effort,
            "chat_template_kwargs": chat_template_kwargs,
        }
        return self._chats.completion(messages, stated, options, overrides)

    def logits(
        self, prompt: str | Sequence[int] | Sequence[Message], *, raw: bool = False
    ) -> "array[float]":
        """Return the model's logits of the token behind `prompt`, one for each of the vocabulary.

        prompt, raw: as in `generate`. As float32 in an `array`, which numpy reads without a copy;
        before temperature, penalties and bias. Prefixes that were computed before are found again.
        Hidden states of texts are `embed`, log probabilities of a prompt's own tokens the option
        `prompt_logprobs`. Raises as `generate`.
        """
        from tonnage.engine.logits import Reading

        generation = self._begin(prompt, None, raw=raw, max_tokens=0)
        reading = Reading(generation, self.tokenizer, self.plan, self.runtime.logits)
        self._serving.run(reading)
        return reading.logits

    @cached_property
    def _chats(self) -> "Chats":
        try:
            from tonnage.chat.requests import Chats
        except ModuleNotFoundError as error:
            raise RequestError(
                f"Chats and forms need {error.name}; install it with pip install 'tonnage[serve]'."
            ) from None
        return Chats(self, self._start.budget_bytes)

    def _bound(
        self, form: ResponseFormat | None, overrides: SamplingOverrides
    ) -> SamplingOverrides:
        if form is None:
            return overrides
        return {**overrides, "constraint": self._chats.constraint(form)}
