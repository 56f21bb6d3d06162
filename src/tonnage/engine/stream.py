"""What callers iterate: completions as text, completions in an event loop, batches."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from itertools import count
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Self

from tonnage.core.errors import TonnageError
from tonnage.core.plan import Plan
from tonnage.core.pooling import Pooling
from tonnage.core.sampling import SamplingOptions
from tonnage.engine.generation import Completion, Generation
from tonnage.engine.job import Delta, Job, OnStep, PoolJob, RequestParameters
from tonnage.engine.step_loop import StepLoop
from tonnage.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import Future

    from tonnage.engine.activity import Activity

__all__ = ["CompletionStream", "Delta", "Serving"]

# Deltas that come faster are handed over as one: no client shows 700 a second, and the cores
# that would wake an event loop for each compute tokens instead.
_GATHER_S = 0.04
# Deltas that a completion may be ahead of its reader when others drive.
_AHEAD_DELTAS = 4
_AHEAD_STREAM_DELTAS = 64


class Serving:
    """Starts requests on a loop of steps."""

    def __init__(self, loop: StepLoop, tokenizer: Tokenizer, plan: Plan) -> None:
        """Take the loop that serves, and what completions are made with."""
        self.loop = loop
        self._tokenizer = tokenizer
        self._plan = plan
        self._ids = count()

    def start(self, generation: Generation, on_step: OnStep | None = None) -> Generation:
        """Return `generation` so that iterating it runs it; nothing is computed before.

        on_step receives every token that was made by a step of its own: how many tokens were
        before it, and the seconds that computing and sampling it took.
        """
        generation._deltas = self._texts(generation, on_step)
        return generation

    def stream(self, generation: Generation, parameters: RequestParameters) -> "CompletionStream":
        """Return the completion for an event loop; nothing is computed before it is iterated."""
        return CompletionStream(self.loop, self._job(generation, parameters, _AHEAD_STREAM_DELTAS))

    def run_batch(
        self, generations: list[Generation], width: int, on_done: Callable[[int], None]
    ) -> None:
        """Run all to their ends, `width` at once; on_done gets their indices as they end.

        A failure stays in its generation. Whatever interrupts this ends all that still run.
        """
        todo = iter(enumerate(generations))
        flying: dict[int, Job] = {}
        try:
            while True:
                self._fill(flying, todo, width, on_done)
                if not flying:
                    return
                self.loop.advance(lambda: any(job.ended for job in flying.values()))
                for index in [index for index, job in flying.items() if job.ended]:
                    failure = flying.pop(index).failure
                    if failure is not None and not isinstance(failure, TonnageError):
                        raise failure
                    on_done(index)
        finally:
            for job in flying.values():
                self.loop.drop(job)
            self.loop.settle()

    def _fill(
        self,
        flying: dict[int, Job],
        todo: Iterator[tuple[int, Generation]],
        width: int,
        on_done: Callable[[int], None],
    ) -> None:
        """Submit more until `width` are flying; what cannot begin has ended."""
        while len(flying) < width and (one := next(todo, None)) is not None:
            index, generation = one
            try:
                flying[index] = self._job(generation, RequestParameters(), None)
            except TonnageError as error:
                generation.finish_reason, generation.error = "error", error
                on_done(index)
                continue
            self.loop.submit(flying[index])

    def run(self, completion: Completion) -> None:
        """Run a completion whose text nobody reads to its end. Raises what ended it early."""
        job = Job(next(self._ids), completion, RequestParameters(), None)
        self.loop.submit(job)
        try:
            self.loop.advance(lambda: job.ended)
        finally:
            if not job.ended:
                self.loop.drop(job)
                self.loop.settle()
        if job.failure is not None:
            raise job.failure

    def pool_job(
        self, prompt: Sequence[int], pooling: Pooling, parameters: RequestParameters
    ) -> PoolJob:
        """Return a text whose hidden states are to be pooled; nothing is queued yet."""
        return PoolJob(next(self._ids), prompt, pooling, parameters)

    def look(self) -> "Future[Activity]":
        """Return what is going on, as of the end of the step that runs now.

        For servers: a thread takes over driving. Raises RequestError when closed.
        """
        from concurrent.futures import Future

        from tonnage.engine.activity import Activity
        from tonnage.scheduler.snapshot import snapshot_of

        seen: Future[Activity] = Future()

        def see() -> None:
            now_ns = perf_counter_ns()
            try:
                snapshot = snapshot_of(self.loop.scheduler, now_ns)
                seen.set_result(Activity(snapshot, self.loop.throughput.decoding(now_ns)))
            except Exception as error:  # A failing observer must end no completion.
                seen.set_exception(error)

        self.loop.start_thread()
        self.loop.call(see)
        return seen

    def _job(self, generation: Generation, parameters: RequestParameters, ahead: int | None) -> Job:
        completion = Completion(generation, self._tokenizer, self._plan)
        return Job(next(self._ids), completion, parameters, ahead)

    def _texts(self, generation: Generation, on_step: OnStep | None) -> Iterator[str]:
        job = self._job(generation, RequestParameters(), _AHEAD_DELTAS)
        job.on_step = on_step
        loop, out = self.loop, job.out
        loop.submit(job)
        try:
            while True:
                loop.advance(lambda: bool(out) or job.ended)
                if not out:
                    break
                text = out.popleft().text
                loop.taken(job)
                if text:
                    yield text
                    job.completion.resume(perf_counter_ns())
        finally:
            if not job.ended:
                loop.drop(job)
                loop.settle()
        if job.failure is not None:
            raise job.failure


def failed(options: SamplingOptions, error: TonnageError) -> Generation:
    """Return what stands for a completion that could not begin."""
    generation = Generation([], options, 0)
    generation.finish_reason, generation.error = "error", error
    return generation


class CompletionStream:
    """A completion as an asynchronous iterator of `Delta`; closing it cancels the request at once.

    `generation` fills while it runs, at most 64 deltas ahead of the reader, and has the whole at
    the end (finish_reason, tokens, text, num_cached_tokens). Iterating raises OverloadError when
    the request is refused, DeadlineError when its time was up before it began, LogitsError when the
    model's numbers overflow. `await` runs it to its end and gives the generation. For one event
    loop; `async with` or `aclose` end it early.
    """

    def __init__(self, loop: StepLoop, job: Job) -> None:
        """Wrap a request that has not been submitted."""
        self._loop = loop
        self._job = job
        self._begun = False
        self._loop_of_reader: asyncio.AbstractEventLoop | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._wanted = False
        self._next_s = 0.0

    @property
    def generation(self) -> Generation:
        """The completion so far."""
        return self._job.completion.generation

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    def __await__(self) -> Generator[Any, None, Generation]:
        """Run to the end and return what came of it."""

        async def whole() -> Generation:
            async for _ in self:
                pass
            return self.generation

        return whole().__await__()

    async def __anext__(self) -> Delta:
        """Wait for more: all deltas since the last, joined, at most one in 40 ms."""
        if not self._begun:
            self._begin()
        job = self._job
        if self._loop_of_reader is None:
            raise StopAsyncIteration  # closed before it began
        clock = self._loop_of_reader.time
        if clock() < self._next_s and not job.stalled:
            await self._wait(self._next_s)
        while True:
            ended = job.ended  # looked at first, since the last delta comes before the end
            if job.out:
                break
            if ended:
                if job.failure is not None:
                    failure, job.failure = job.failure, None
                    raise failure
                raise StopAsyncIteration
            await self._wait(None)
        deltas = [job.out.popleft() for _ in range(len(job.out))]
        self._loop.taken(job)
        # All completions share the same instants, so that one waking of the event loop serves them.
        self._next_s = (clock() // _GATHER_S + 1) * _GATHER_S
        return deltas[0] if len(deltas) == 1 else _joined(deltas)

    async def _wait(self, until_s: float | None) -> None:
        """Wait for a delta, or until then whether there are deltas or not; for the end, always."""
        loop, job = self._loop_of_reader, self._job
        assert loop is not None
        waiter = self._waiter = loop.create_future()
        timer = None if until_s is None else loop.call_at(until_s, self._wake)
        self._wanted = until_s is None
        try:
            # What came before the wait has woken no one.
            if not (job.ended or (self._wanted and job.out)):
                await waiter
        finally:
            # A caller that closes while another waits has taken its place.
            if self._waiter is waiter:
                self._wanted, self._waiter = False, None
            if timer is not None:
                timer.cancel()

    def _wake(self) -> None:
        """Let the reader look again; in the event loop's thread."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def aclose(self) -> None:
        """Cancel what is not done; its pages are free when this returns."""
        job = self._job
        job.out.clear()
        if not self._begun:
            self._begun = job.ended = True
        if not job.ended:
            self._loop.cancel(job)
        while not job.ended:
            job.out.clear()
            await self._wait(None)
        job.out.clear()

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Close."""
        await self.aclose()

    def __del__(self) -> None:
        """Cancel a completion that was dropped."""
        if self._begun and not self._job.ended:
            self._job.notify = None
            self._loop.drop(self._job)

    def _begin(self) -> None:
        import asyncio

        self._begun = True
        loop = self._loop_of_reader = asyncio.get_running_loop()

        def notify() -> None:
            # No reader is woken while deltas are gathered.
            job = self._job
            if not (self._wanted or job.ended or job.stalled):
                return
            # A loop that was closed has no reader any more.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._wake)

        self._job.notify = notify
        self._loop.start_thread()
        self._loop.submit(self._job)


def _joined(deltas: list[Delta]) -> Delta:
    """Return one delta that says what several say."""
    return Delta(
        "".join(delta.text for delta in deltas),
        tuple(token for delta in deltas for token in delta.tokens),
        tuple(one for delta in deltas for one in delta.logprobs),
        tuple(one for delta in deltas for one in delta.prompt_logprobs),
    )
