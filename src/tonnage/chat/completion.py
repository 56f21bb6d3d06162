"""The response to a conversation: text, calls of tools, and what the model thought before."""

import json
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import aclosing, closing
from typing import Any, cast

from tonnage.core.errors import RequestError
from tonnage.engine.generation import Generation
from tonnage.engine.stream import CompletionStream
from tonnage.server.generation.call_formats import Call
from tonnage.server.generation.reasoning import ReasoningParser, ReasoningStart, Thought
from tonnage.server.generation.tool_calls import parser_of
from tonnage.server.generation.tool_use import CallRules


class ChatCompletion:
    """Iterate it (`for` or `async for`) for its text as it comes, or have it whole.

    `complete()`, `str(...)` and, in an event loop, `await` run it to its end. After that `text`,
    `tool_calls` and `reasoning` are what it came to, and `message` is what the conversation goes on
    with. It runs once: asked again, it gives what came of it.
    """

    def __init__(
        self,
        begin: Callable[[], Generation],
        begin_stream: Callable[[], CompletionStream],
        rules: CallRules,
        reasoning: ReasoningStart,
    ) -> None:
        """begin, begin_stream: what makes the completion, for `for` and for `async for`.

        rules: what of its text is a call. reasoning: whether it begins with what the model thinks.
        """
        self.text = ""
        self.reasoning = ""
        self.tool_calls: list[Call] = []
        self._begin = begin
        self._begin_stream = begin_stream
        self._reasoning = ReasoningParser(reasoning)
        self._calls = parser_of(rules)
        self._generation: Generation | None = None

    def __iter__(self) -> Iterator[str]:
        """Yield the text as it comes, without calls and thoughts."""
        if self._generation is not None:
            yield self.text
            return
        self._generation = self._begin()
        deltas = cast(Generator[str, None, None], iter(self._generation))
        with closing(deltas):
            for delta in deltas:
                yield from self._take(delta)
                if self._calls.is_complete:
                    break
        yield from self._finish()

    async def __aiter__(self) -> AsyncIterator[str]:
        """Yield the text as it comes, without calls and thoughts."""
        if self._generation is not None:
            yield self.text
            return
        async with aclosing(self._begin_stream()) as stream:
            self._generation = stream.generation
            async for delta in stream:
                for text in self._take(delta.text):
                    yield text
                if self._calls.is_complete:
                    break
        for text in self._finish():
            yield text

    def complete(self) -> "ChatCompletion":
        """Run to the end and return itself."""
        for _ in self:
            pass
        return self

    def __await__(self) -> Generator[Any, None, "ChatCompletion"]:
        """Run to the end and return itself."""
        return self._awaited().__await__()

    async def _awaited(self) -> "ChatCompletion":
        async for _ in self:
            pass
        return self

    def __str__(self) -> str:
        """Return the text, once it is whole."""
        return self.complete().text

    @property
    def generation(self) -> Generation:
        """Tokens, log probabilities and times. Raises RequestError before it was begun."""
        if self._generation is None:
            raise RequestError("The completion has not begun; iterate it or call complete().")
        return self._generation

    @property
    def finish_reason(self) -> str | None:
        """`tool_calls` where it ended with calls, else as of `Generation`."""
        reason = None if self._generation is None else self._generation.finish_reason
        return "tool_calls" if self.tool_calls and reason == "stop" else reason

    @property
    def message(self) -> dict[str, Any]:
        """The response as a message to go on with: append it, then the results of its calls."""
        message: dict[str, Any] = {"role": "assistant", "content": self.text}
        if self.reasoning:
            message["reasoning_content"] = self.reasoning
        if self.tool_calls:
            message["tool_calls"] = [_called(call) for call in self.tool_calls]
        return message

    def _take(self, text: str) -> Iterator[str]:
        yield from self._keep(self._reasoning.push(text))

    def _finish(self) -> Iterator[str]:
        yield from self._keep(self._reasoning.flush())
        yield from self._said(self._calls.flush())
        generation = self.generation
        if self._calls.is_complete and generation.finish_reason is None:
            generation.finish_reason = "stop"

    def _keep(self, parts: list[str | Thought]) -> Iterator[str]:
        for part in parts:
            if isinstance(part, Thought):
                self.reasoning += part.text
            else:
                yield from self._said(self._calls.push(part))

    def _said(self, parts: list[str | Call]) -> Iterator[str]:
        for part in parts:
            if isinstance(part, Call):
                self.tool_calls.append(part)
            else:
                self.text += part
                yield part


def _called(call: Call) -> dict[str, Any]:
    function = {"name": call.name, "arguments": json.loads(call.arguments)}
    return {"id": call.call_id, "type": "function", "function": function}
