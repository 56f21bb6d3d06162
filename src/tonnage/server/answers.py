"""What the server needs of an engine, and an engine that answers one request after another.

The concurrent engine has the same face; `SerialEngine` serves where it is not there yet.
"""

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol, cast

from tonnage.core.errors import DeadlineError, OverloadError
from tonnage.core.plan import Plan
from tonnage.core.sampling import SamplingOptions
from tonnage.engine import Engine
from tonnage.generation import Generation
from tonnage.serving import Piece
from tonnage.text.tokenizer import Tokenizer

# Pieces that come faster than this go out together: a reader sees no difference, and the cores
# that would send 700 small packets a second compute tokens instead.
GATHER_S = 0.025


class Answer(Protocol):
    """Text as it is generated; `generation` tells the rest, its finish_reason once it has ended."""

    generation: Generation

    def __aiter__(self) -> AsyncIterator[Piece]:
        """Return itself."""

    async def __anext__(self) -> Piece:
        """Return more text, which may be of several tokens."""

    async def aclose(self) -> None:
        """Stop; the engine computes nothing more for it."""


class AsyncEngine(Protocol):
    """An engine for an event loop."""

    plan: Plan
    tokenizer: Tokenizer

    def stream(
        self,
        prompt: list[int],
        options: SamplingOptions,
        *,
        priority: int = 0,
        deadline_s: float | None = None,
        tenant: str = "",
        cache_salt: str = "",
    ) -> Answer:
        """Queue an answer to `prompt`; OverloadError, from here or from iterating, refuses it.

        deadline_s: from now on; later the answer ends as it is, or with DeadlineError. tenant:
        whose turn it counts as. cache_salt: prefixes are shared between equal ones only.
        """


@dataclass(eq=False)
class _Job:
    prompt: list[int]
    options: SamplingOptions
    cache_salt: str
    priority: int
    deadline: float
    answer: "SerialAnswer"


class SerialAnswer:
    """An answer of `SerialEngine`; to be iterated by the event loop that asked for it."""

    def __init__(self, engine: "SerialEngine", prompt: list[int], options: SamplingOptions) -> None:
        """Begin empty; the engine's thread fills it."""
        self.generation = Generation(prompt, options, 0)
        self.cancelled = False
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self._pieces: deque[str] = deque()
        self._ended = False
        self._error: BaseException | None = None
        self._news = asyncio.Event()
        self._wanted = False
        self._next_s = 0.0
        self._seen = 0

    def __aiter__(self) -> AsyncIterator[Piece]:
        """Return itself."""
        return cast(AsyncIterator[Piece], self)

    async def __anext__(self) -> Piece:
        """Return all text that has come since the last call, and wait for it if need be."""
        pause_s = self._next_s - self._loop.time()
        if pause_s > 0 and not self._ended:
            self._news.clear()
            try:
                async with asyncio.timeout(pause_s):
                    await self._news.wait()
            except TimeoutError:
                pass
        while not self._pieces and not self._ended:
            self._news.clear()
            self._wanted = True
            if not self._pieces and not self._ended:
                await self._news.wait()
            self._wanted = False
        self._next_s = self._loop.time() + GATHER_S
        if self._pieces:
            text = "".join(self._pieces.popleft() for _ in range(len(self._pieces)))
            return self._piece(text)
        if self._error is not None:
            raise self._error
        raise StopAsyncIteration

    def _piece(self, text: str) -> Piece:
        generation, begin = self.generation, self._seen
        self._seen = len(generation.tokens)
        return Piece(
            text,
            tuple(generation.tokens[begin : self._seen]),
            tuple(generation.logprobs[begin : self._seen]),
        )

    async def aclose(self) -> None:
        """Stop the answer."""
        self.cancelled = True
        self._engine.forget(self)

    def push(self, piece: str) -> None:
        """Take more text; called by the engine's thread."""
        self._pieces.append(piece)
        if self._wanted:
            self._wanted = False
            self._wake()

    def end(self, error: BaseException | None = None) -> None:
        """Take the end; called by the engine's thread."""
        self._error = error
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._news.set)
        except RuntimeError:  # the loop is closed, so nobody waits
            self.cancelled = True


class SerialEngine:
    """Answers in one thread, one request at a time, highest priority first; `close` ends it."""

    def __init__(self, engine: Engine, *, max_waiting: int = 64) -> None:
        """Take an open engine, which belongs to this one until `close`."""
        self.plan = engine.plan
        self.tokenizer = engine.tokenizer
        self._engine = engine
        self._max_waiting = max_waiting
        self._jobs: list[_Job] = []
        self._changed = threading.Condition()
        self._running: SerialAnswer | None = None
        self._closed = False
        self._salt = ""
        self._mean_s = 1.0
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    def stream(
        self,
        prompt: list[int],
        options: SamplingOptions,
        *,
        priority: int = 0,
        deadline_s: float | None = None,
        tenant: str = "",
        cache_salt: str = "",
    ) -> SerialAnswer:
        """Queue an answer, as AsyncEngine.stream says; tenants take turns as they come."""
        answer = SerialAnswer(self, prompt, options)
        deadline = math.inf if deadline_s is None else time.monotonic() + deadline_s
        job = _Job(prompt, options, cache_salt, priority, deadline, answer)
        with self._changed:
            waiting = len(self._jobs)
            if waiting >= self._max_waiting:
                raise OverloadError(
                    f"{waiting} requests are waiting, and no more may; try again later.",
                    retry_after_s=waiting * self._mean_s,
                )
            self._jobs.append(job)
            self._changed.notify()
        return answer

    def forget(self, answer: SerialAnswer) -> None:
        """Drop a job that waits; the running one ends by itself."""
        with self._changed:
            self._jobs = [job for job in self._jobs if job.answer is not answer]

    def close(self) -> None:
        """End the thread, at the latest after one step; answers that wait never come."""
        with self._changed:
            self._closed = True
            self._changed.notify()
            if self._running is not None:
                self._running.cancelled = True
        self._thread.join()

    def _next(self) -> _Job | None:
        with self._changed:
            self._running = None
            while not self._jobs and not self._closed:
                self._changed.wait()
            if self._closed:
                return None
            job = max(self._jobs, key=lambda one: one.priority)
            self._jobs.remove(job)
            self._running = job.answer
            return job

    def _work(self) -> None:
        while (job := self._next()) is not None:
            try:
                self._answer(job)
            except Exception as error:
                job.answer.end(error)
            else:
                job.answer.end()

    def _answer(self, job: _Job) -> None:
        answer = job.answer
        if answer.cancelled:
            return
        if time.monotonic() > job.deadline:
            raise DeadlineError("The request's deadline passed before its turn came.")
        if job.cache_salt != self._salt:
            # How long a prefix takes would tell one tenant what another has asked.
            self._engine.forget_prefix()
            self._salt = job.cache_salt
        generation = self._engine.generate(job.prompt, job.options)
        answer.generation = generation
        for piece in generation:
            if answer.cancelled:
                return
            answer.push(piece)
            if time.monotonic() > job.deadline:
                generation.finish_reason = "deadline"
                return
        spent_s = 1e-9 * (generation.time_to_first_token_ns + generation.decode_ns)
        self._mean_s += 0.2 * (spent_s - self._mean_s)
