"""The answers to one request: pieces as they come, calls told from text, what came of each."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from tonnage.generation import TokenLogprob
from tonnage.server.answers import Answer
from tonnage.server.failures import HttpError
from tonnage.server.tool_calls import Call, ToolParser
from tonnage.serving.job import Piece
from tonnage.text.tokenizer import Tokenizer

# What ended an answer, in OpenAI's words; a deadline cuts an answer as a length does.
_FINISH = {"stop": "stop", "length": "length", "deadline": "length"}


# What all answers may hold of log probabilities until they are sent: 110 bytes each, and in one
# answer at a time 200 more while it becomes JSON.
MOST_LOGPROBS = 32_768


@dataclass(slots=True)
class LogprobRoom:
    """Log probabilities, alternatives included, that wait to be sent, of all requests together."""

    num_held: int = 0

    def hold(self, count: int, own: int) -> None:
        """Count so many more of an answer that holds `own` already. Raises HttpError when full."""
        if self.num_held + count <= MOST_LOGPROBS:
            self.num_held += count
            return
        sentence = (
            f"Log probabilities wait for the ends of their answers, {own:,} of them of this one; "
            f"there is room for {MOST_LOGPROBS:,} in all. Stream the answer, or ask for fewer."
        )
        if own == self.num_held:
            raise HttpError(400, sentence, code="invalid_value", param="logprobs")
        raise HttpError(503, sentence, code="busy", headers={"retry-after": "1"})


class Choice:
    """One answer, and all that has come of it."""

    def __init__(
        self,
        answer: Answer,
        tool_names: Sequence[str],
        end_ids: frozenset[int],
        room: LogprobRoom,
    ) -> None:
        """tool_names: functions that may be called. end_ids: tokens that are no part of a text.

        room: for log probabilities until they are sent.
        """
        self.answer = answer
        self.texts: list[str] = []
        self.calls: list[Call] = []
        self.logprobs: list[TokenLogprob] = []
        self._parser = ToolParser(tool_names)
        self._end_ids = end_ids
        self._room = room
        self._num_held = 0

    def take(self, piece: Piece) -> list[str | Call]:
        """Take a piece; return the texts and calls that are complete with it.

        Raises HttpError when there is no room for its log probabilities.
        """
        if piece.logprobs:
            new = [one for one in piece.logprobs if one.token_id not in self._end_ids]
            count = sum(1 + len(one.top) for one in new)
            self._room.hold(count, self._num_held)
            self._num_held += count
            self.logprobs += new
            # The piece has them; the last may not have been handed over yet.
            del self.answer.generation.logprobs[:-1]
        return self._keep(self._parser.push(piece.text))

    def take_logprobs(self) -> list[TokenLogprob]:
        """Return the log probabilities that came since the last call, and hold them no more."""
        taken, self.logprobs = self.logprobs, []
        self._room.num_held -= self._num_held
        self._num_held = 0
        return taken

    def finish(self) -> list[str | Call]:
        """Return what was held back; the answer has ended."""
        return self._keep(self._parser.flush())

    def _keep(self, parts: list[str | Call]) -> list[str | Call]:
        for part in parts:
            if isinstance(part, Call):
                self.calls.append(part)
            else:
                self.texts.append(part)
        return parts

    @property
    def text(self) -> str:
        """The text without calls."""
        return "".join(self.texts)

    @property
    def finish_reason(self) -> str:
        """OpenAI's finish_reason."""
        if self.calls:
            return "tool_calls"
        return _FINISH.get(self.answer.generation.finish_reason or "", "stop")


class Choices:
    """All answers of one request; `close` cancels those that still run."""

    def __init__(self, choices: Sequence[Choice]) -> None:
        """Take answers that have been queued."""
        self.all = list(choices)
        self._tasks: list[asyncio.Task[None]] = []

    async def pieces(self) -> AsyncIterator[tuple[int, Piece | None]]:
        """Yield (index of a choice, its next piece), None for its end."""
        if len(self.all) == 1:
            async for piece in self.all[0].answer:
                yield 0, piece
            yield 0, None
            return
        arrived: asyncio.Queue[tuple[int, Piece | Exception | None]] = asyncio.Queue(64)
        self._tasks = [
            asyncio.create_task(_pump(index, choice.answer, arrived))
            for index, choice in enumerate(self.all)
        ]
        left = len(self.all)
        while left:
            index, news = await arrived.get()
            if isinstance(news, Exception):
                raise news
            left -= news is None
            yield index, news

    async def complete(self) -> None:
        """Run all answers to their ends."""
        async for index, piece in self.pieces():
            choice = self.all[index]
            if piece is None:
                choice.finish()
            else:
                choice.take(piece)

    async def close(self) -> None:
        """Cancel what still runs."""
        for task in self._tasks:
            task.cancel()
        for choice in self.all:
            choice.take_logprobs()
            await choice.answer.aclose()


async def _pump(
    index: int, answer: Answer, arrived: "asyncio.Queue[tuple[int, Piece | Exception | None]]"
) -> None:
    try:
        async for piece in answer:
            await arrived.put((index, piece))
    except Exception as error:
        await arrived.put((index, error))
    else:
        await arrived.put((index, None))


def chat_logprobs(
    tokenizer: Tokenizer, entries: Sequence[TokenLogprob], num_top: int
) -> dict[str, Any]:
    """Return OpenAI's `logprobs` of a chat choice."""

    def told(token_id: int, logprob: float) -> dict[str, Any]:
        data = tokenizer.token_bytes(token_id)
        return {
            "token": data.decode("utf-8", "replace"),
            "logprob": max(logprob, -9999.0),
            "bytes": list(data),
        }

    # Encoded one by one: as objects they would take several times as much.
    content = [
        _encoded(
            {
                **told(one.token_id, one.logprob),
                "top_logprobs": [told(*pair) for pair in one.top[:num_top]],
            }
        )
        for one in entries
    ]
    return {"content": content, "refusal": None}


def _encoded(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def text_logprobs(
    tokenizer: Tokenizer, entries: Sequence[TokenLogprob], num_top: int, offset: int
) -> dict[str, Any]:
    """Return OpenAI's `logprobs` of a completion; offset: letters before the first token."""
    tokens = [tokenizer.token_bytes(one.token_id).decode("utf-8", "replace") for one in entries]
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token)
    tops = [
        _encoded(
            {
                tokenizer.token_bytes(token_id).decode("utf-8", "replace"): max(logprob, -9999.0)
                for token_id, logprob in one.top[:num_top]
            }
        )
        for one in entries
    ]
    return {
        "tokens": tokens,
        "token_logprobs": [max(one.logprob, -9999.0) for one in entries],
        "top_logprobs": tops,
        "text_offset": offsets,
    }
