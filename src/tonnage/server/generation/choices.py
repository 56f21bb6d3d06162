"""The completions of one request: deltas as they come, calls in them, what came of each."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from sys import getsizeof

from tonnage.engine.generation import TokenLogprob
from tonnage.engine.job import Delta
from tonnage.server.generation.call_formats import Call
from tonnage.server.generation.engine import Completion
from tonnage.server.generation.reasoning import ReasoningParser, ReasoningStart, Thought
from tonnage.server.generation.tool_calls import parser_of
from tonnage.server.generation.tool_use import CallRules
from tonnage.server.models.response_memory import ANSWER_BYTES, ENDED_BYTES, ResponseMemory
from tonnage.text.tokenizer import Tokenizer

# What a completion is made of.
OutputPart = str | Call | Thought
# What ended a completion, in OpenAI's words; a deadline cuts it as a length does.
_FINISH = {"stop": "stop", "length": "length", "deadline": "length"}


class Choice:
    """One completion, and all that has come of it."""

    def __init__(
        self,
        completion: Completion,
        rules: CallRules,
        tokenizer: Tokenizer,
        response_memory: ResponseMemory,
        reasoning: ReasoningStart = "never",
    ) -> None:
        """rules: what is a call. response_memory: for what waits to be sent.

        reasoning: whether it begins with what the model thinks.
        """
        self.completion = completion
        self.texts: list[str] = []
        self.thoughts: list[str] = []
        self.num_reasoning_tokens = 0  # as exact as deltas are short
        self.calls: list[Call] = []
        self.logprobs: list[TokenLogprob] = []
        self._parser = parser_of(rules)
        self._reasoning = ReasoningParser(reasoning)
        self._tokenizer = tokenizer
        self._memory = response_memory
        self._num_held = 0
        self.held_bytes = 0

    async def deltas(self) -> AsyncIterator[Delta]:
        """Yield what the engine makes, up to the end or to the one call that is wanted."""
        async for delta in self.completion:
            yield delta
            if self._parser.is_complete:
                await self.completion.aclose()
                generation = self.completion.generation
                generation.finish_reason = generation.finish_reason or "stop"
                return

    def take(self, delta: Delta) -> list[OutputPart]:
        """Take a delta; return the texts, thoughts and calls that are complete with it.

        Raises HttpError when there is no memory for its log probabilities.
        """
        if delta.logprobs or delta.prompt_logprobs:
            new = [*delta.prompt_logprobs, *filter(self._is_wanted, delta.logprobs)]
            count = sum(map(self._weight, new))
            self._memory.logprobs.hold(count, self._num_held)
            self._num_held += count
            self.logprobs += new
            # The delta has them; the last may not have been handed over yet.
            self.completion.generation.drop_logprobs()
        parts = self._parted(self._reasoning.push(delta.text))
        if self._reasoning.is_thinking:
            self.num_reasoning_tokens += len(delta.tokens)
        return self._keep(parts)

    def _parted(self, parts: Sequence[str | Thought]) -> list[OutputPart]:
        """Return the parts with the calls in what is said."""
        found: list[OutputPart] = []
        for part in parts:
            found += [part] if isinstance(part, Thought) else self._parser.push(part)
        return found

    def _is_wanted(self, entry: TokenLogprob) -> bool:
        """Whether an entry is listed: the end's is where every token of the prompt is, too."""
        with_prompt = self.completion.generation.options.prompt_logprobs is not None
        return with_prompt or entry.token_id not in self._tokenizer.eos_ids

    def _weight(self, entry: TokenLogprob) -> int:
        """Return as how many an entry counts: those of long tokens take more as JSON."""
        ids = (entry.token_id, *(token_id for token_id, _ in entry.top))
        return sum(1 + len(self._tokenizer.token_bytes(one)) // 8 for one in ids)

    def settle(self, own_bytes: int) -> None:
        """Make what an ended completion holds small, and count it until the others have ended.

        own_bytes: counted of its request already. Raises HttpError without memory for it.
        """
        generation = self.completion.generation
        self.texts, self.thoughts = [self.text], [self.thought]
        generation.compact()
        kept = (self.texts[0], self.thoughts[0], generation.tokens)
        kept_bytes = sum(map(getsizeof, kept)) + ENDED_BYTES
        num_bytes = max(0, kept_bytes - ANSWER_BYTES)  # so much was counted when it was queued
        self._memory.answers.hold(num_bytes, own_bytes)
        self.held_bytes += num_bytes

    def release(self) -> None:
        """Give back what was counted."""
        self.take_logprobs()
        self._memory.answers.release(self.held_bytes)
        self.held_bytes = 0

    def take_logprobs(self) -> list[TokenLogprob]:
        """Return the log probabilities that came since the last call, and hold them no more."""
        taken, self.logprobs = self.logprobs, []
        self._memory.logprobs.num_held -= self._num_held
        self._num_held = 0
        return taken

    def finish(self) -> list[OutputPart]:
        """Return what was held back; the completion has ended."""
        return self._keep([*self._parted(self._reasoning.flush()), *self._parser.flush()])

    def _keep(self, parts: list[OutputPart]) -> list[OutputPart]:
        for part in parts:
            if isinstance(part, Call):
                self.calls.append(part)
            elif isinstance(part, Thought):
                self.thoughts.append(part.text)
            else:
                self.texts.append(part)
        return parts

    @property
    def text(self) -> str:
        """The text without calls."""
        return "".join(self.texts)

    @property
    def thought(self) -> str:
        """What the model thought before it."""
        return "".join(self.thoughts)

    @property
    def finish_reason(self) -> str:
        """OpenAI's finish_reason."""
        reason = _FINISH.get(self.completion.generation.finish_reason or "", "stop")
        # What follows of a completion that was cut may be half of another call.
        return "tool_calls" if self.calls and reason == "stop" else reason


class Choices:
    """All completions of one request; `close` cancels those that still run."""

    def __init__(self, choices: Sequence[Choice]) -> None:
        """Take completions that have been queued."""
        self.all = list(choices)
        self._tasks: list[asyncio.Task[None]] = []

    async def deltas(self) -> AsyncIterator[tuple[int, Delta | None]]:
        """Yield (index of a choice, its next delta), None for its end."""
        if len(self.all) == 1:
            async for delta in self.all[0].deltas():
                yield 0, delta
            yield 0, None
            return
        arrived: asyncio.Queue[tuple[int, Delta | Exception | None]] = asyncio.Queue(64)
        self._tasks = [
            asyncio.create_task(_pump(index, choice, arrived))
            for index, choice in enumerate(self.all)
        ]
        left = len(self.all)
        while left:
            index, news = await arrived.get()
            if isinstance(news, Exception):
                raise news
            left -= news is None
            yield index, news
            if news is None:
                self.all[index].settle(sum(choice.held_bytes for choice in self.all))

    async def complete(self) -> None:
        """Run all completions to their ends."""
        async for index, delta in self.deltas():
            choice = self.all[index]
            if delta is None:
                choice.finish()
            else:
                choice.take(delta)

    async def close(self) -> None:
        """Cancel what still runs."""
        for task in self._tasks:
            task.cancel()
        for choice in self.all:
            choice.release()
            await choice.completion.aclose()


async def _pump(
    index: int, choice: Choice, arrived: "asyncio.Queue[tuple[int, Delta | Exception | None]]"
) -> None:
    try:
        async for delta in choice.deltas():
            await arrived.put((index, delta))
    except Exception as error:
        await arrived.put((index, error))
    else:
        await arrived.put((index, None))
