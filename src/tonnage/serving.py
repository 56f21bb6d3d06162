"""Answers for many at once: what callers hold while the engine's steps serve them together."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from tonnage.generation import Generation, TokenLogprob


@dataclass(frozen=True, slots=True)
class Piece:
    """What one step added to an answer: text that can be shown, and the tokens behind it.

    text may be empty (half a character, a possible stop string); the next piece then holds more.
    logprobs: one per token where the options ask for them, else empty.
    """

    text: str
    tokens: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...]


class AnswerStream:
    """An answer as an asynchronous iterator of `Piece`; closing it cancels the request at once.

    `generation` fills while it runs and tells the whole at the end (finish_reason, tokens, text,
    num_cached_tokens). Iterating raises OverloadError when the request is refused, DeadlineError
    when its time was up before it began, LogitsError when the model's numbers overflow. Use it in
    one event loop; `async with` or `aclose` end it early.
    """

    def __init__(self, generation: Generation) -> None:
        """Wrap an answer that has not begun."""
        self.generation = generation
        self._texts: Iterator[str] = iter(generation)
        self._seen = 0

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> Piece:
        """Wait for the next piece."""
        import asyncio

        text = await asyncio.to_thread(next, self._texts, None)
        if text is None:
            raise StopAsyncIteration
        begin, self._seen = self._seen, len(self.generation.tokens)
        return Piece(
            text,
            tuple(self.generation.tokens[begin:]),
            tuple(self.generation.logprobs[begin:]),
        )

    async def aclose(self) -> None:
        """Cancel what is not done; its memory is free when this returns."""
        self._texts = iter(())

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Close."""
        await self.aclose()
