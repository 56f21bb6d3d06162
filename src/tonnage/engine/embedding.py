"""Texts to vectors: several texts at once, handed out in their order.

Of each text only the sum of its hidden states is kept (`PoolJob.sums`), never the states.
"""

from array import array
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import islice
from math import fsum, isfinite, sqrt
from typing import TYPE_CHECKING, Self

from tonnage.core.errors import ContextLengthError, LogitsError, RequestError
from tonnage.core.plan import Plan
from tonnage.core.pooling import POOLINGS, Pooling, TrainedPooling
from tonnage.core.record import record
from tonnage.engine.job import PoolJob, RequestParameters
from tonnage.engine.step_loop import StepLoop
from tonnage.engine.stream import Serving
from tonnage.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    import asyncio

# One text or several; a text may be token ids.
Inputs = str | Sequence[int] | Sequence[str | Sequence[int]]


@record
class Embedding:
    """The vector of a text in float32, and how many tokens the text has."""

    vector: "array[float]"
    num_tokens: int


@record
class VectorOptions:
    """How vectors are made: the first `dimensions` elements, None for all; to length 1 or not."""

    pooling: Pooling = "mean"
    dimensions: int | None = None
    normalize: bool = True

    def check(self, plan: Plan) -> None:
        """Raise RequestError for what the model of `plan` cannot give."""
        if self.pooling not in POOLINGS:
            raise RequestError(f"pooling is {self.pooling!r}; it is one of {', '.join(POOLINGS)}.")
        if self.dimensions is not None and not 1 <= self.dimensions <= plan.d_model:
            raise RequestError(
                f"{self.dimensions:,} dimensions were asked for and the model has "
                f"{plan.d_model:,}; ask for 1 to {plan.d_model:,}, or leave them out."
            )

    def embedding(self, job: PoolJob) -> Embedding:
        """Return what came of an ended job. Raises LogitsError for numbers that overflowed."""
        sums = array("d", job.sums)
        if not all(map(isfinite, sums)):
            raise LogitsError(
                "The hidden states of a text are not finite; download the model again."
            )
        num_tokens = len(job.prompt)
        kept = sums[: self.dimensions]
        if self.normalize:
            # fsum rounds once, so the order of the elements does not matter.
            length = sqrt(fsum(value * value for value in kept))
        else:
            length = float(num_tokens) if self.pooling == "mean" else 1.0
        vector = array("f", [value / length for value in kept]) if length else array("f", kept)
        return Embedding(vector, num_tokens)


class Embedder:
    """Texts to vectors, by one engine."""

    def __init__(
        self, serving: Serving, tokenizer: Tokenizer, plan: Plan, trained: TrainedPooling
    ) -> None:
        """trained: what the model was trained for, taken where no pooling is asked for."""
        self._serving = serving
        self._tokenizer = tokenizer
        self._plan = plan
        self._trained = trained

    def encode(self, inputs: Inputs) -> list[Sequence[int]]:
        """Return the token ids of every text. Control tokens written in a text are plain text.

        Raises RequestError for no text, an empty one and unknown ids, ContextLengthError for one
        that is longer than the context.
        """
        prompts: list[Sequence[int]] = []
        for index, one in enumerate(_texts(inputs)):
            if isinstance(one, str):
                text = self._tokenizer.encode(one, add_special=True, parse_special=False)
                ids = text if one else []
            else:
                ids = list(one)
            _check(index, ids, self._plan)
            prompts.append(array("i", ids))
        return prompts

    def options(
        self, pooling: Pooling | None, dimensions: int | None, *, normalize: bool = True
    ) -> VectorOptions:
        """Return how vectors are made. Raises RequestError for what this model cannot give."""
        if pooling is None and self._trained.unmet:
            raise RequestError(
                f"The model's files ask for vectors that are not implemented: "
                f"{self._trained.unmet}. State a pooling ({' or '.join(POOLINGS)}) to have those "
                "of its hidden states alone."
            )
        options = VectorOptions(pooling or self._trained.kind or "mean", dimensions, normalize)
        options.check(self._plan)
        return options

    def embed(self, inputs: Inputs, options: VectorOptions) -> list[Embedding]:
        """Return the vector of each text; inputs, errors: as of `Engine.embed`."""
        return self._batch(self.encode(inputs), options.pooling, RequestParameters()).run(options)

    def stream(
        self,
        prompts: Sequence[Sequence[int]],
        options: VectorOptions,
        parameters: RequestParameters,
    ) -> "EmbeddingStream":
        """Return the vectors of `prompts`, which `encode` made, as an asynchronous iterator."""
        return EmbeddingStream(self._batch(prompts, options.pooling, parameters), options)

    def _batch(
        self, prompts: Iterable[Sequence[int]], pooling: Pooling, parameters: RequestParameters
    ) -> "PoolBatch":
        """Return texts to pool, twice as many at once as can run."""
        jobs = (self._serving.pool_job(prompt, pooling, parameters) for prompt in prompts)
        return PoolBatch(self._serving.loop, jobs, 2 * self._plan.concurrency)


def _texts(inputs: Inputs) -> list[str | Sequence[int]]:
    if isinstance(inputs, str):
        return [inputs]
    if not inputs:
        raise RequestError("There is nothing to embed; give at least one text.")
    numbers = [one for one in inputs if isinstance(one, int)]
    if numbers and len(numbers) < len(inputs):
        raise RequestError("The inputs mix token ids with texts; give one text, or a list of them.")
    return [numbers] if numbers else [one for one in inputs if not isinstance(one, int)]


def _check(index: int, ids: list[int], plan: Plan) -> None:
    if not ids:
        raise RequestError(f"Input {index} is empty; give it at least one token.")
    wrong = next((one for one in ids if not 0 <= one < plan.vocab_size), None)
    if wrong is not None:
        raise RequestError(
            f"Input {index}: token id {wrong} is not in the vocabulary of {plan.vocab_size:,}."
        )
    if len(ids) > plan.context_tokens:
        raise ContextLengthError(
            f"Input {index} has {len(ids):,} tokens and the context holds "
            f"{plan.context_tokens:,}; split it, or open the model with --context {len(ids)}."
        )


class PoolBatch:
    """Jobs of texts, at most `width` of them queued, running or not taken yet; the first ahead."""

    def __init__(self, loop: StepLoop, jobs: Iterable[PoolJob], width: int) -> None:
        """Queue nothing yet; jobs: made as places are free."""
        self.jobs: deque[PoolJob] = deque()
        self.loop = loop
        self.notify: Callable[[], None] | None = None  # called when any of them has ended
        self._todo = enumerate(jobs)
        self._width = width

    def fill(self) -> None:
        """Queue as many as there are places for."""
        fresh: list[PoolJob] = []
        for index, job in islice(self._todo, self._width - len(self.jobs)):
            # The first one finds a place in the queue for all.
            job.joined = index > 0
            job.notify = self.notify
            fresh.append(job)
        if fresh:
            self.jobs.extend(fresh)
            self.loop.submit(*fresh)

    def take(self) -> PoolJob:
        """Return the first job, which has ended, and leave it. Raises what it failed with."""
        job = self.jobs.popleft()
        if job.failure is not None:
            raise job.failure
        return job

    def run(self, options: VectorOptions) -> list[Embedding]:
        """Return the vectors of all, driving the loop meanwhile."""
        found: list[Embedding] = []
        try:
            while True:
                self.fill()
                if not self.jobs:
                    return found
                self.loop.advance(_ended(self.jobs[0]))
                found.append(options.embedding(self.take()))
        finally:
            self.drop()
            self.loop.settle()

    def drop(self) -> None:
        """Cancel what has not ended; safe where garbage is collected."""
        for job in self.jobs:
            job.notify = None
            if not job.ended:
                self.loop.drop(job)


def _ended(job: PoolJob) -> Callable[[], bool]:
    return lambda: job.ended


class EmbeddingStream:
    """The embeddings of several texts, in their order, as an asynchronous iterator.

    Nothing is computed before it is iterated. Iterating raises OverloadError when the request is
    refused, DeadlineError when its time was up, LogitsError when the model's numbers overflow. For
    one event loop; `aclose` cancels what is left.
    """

    def __init__(self, batch: PoolBatch, options: VectorOptions) -> None:
        """Take what has not begun."""
        self._batch = batch
        self._options = options
        self._arrived: asyncio.Event | None = None

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> Embedding:
        """Wait for the next text."""
        batch = self._batch
        if self._arrived is None:
            self._begin()
        batch.fill()
        if not batch.jobs:
            raise StopAsyncIteration
        await self._until_ended(batch.jobs[0])
        return self._options.embedding(batch.take())

    async def aclose(self) -> None:
        """Cancel what is not done; its pages are free when this returns."""
        batch = self._batch
        for job in batch.jobs:
            if not job.ended:
                batch.loop.cancel(job)
        while batch.jobs:
            await self._until_ended(batch.jobs[0])
            batch.jobs.popleft()

    def __del__(self) -> None:
        """Cancel what was dropped."""
        self._batch.drop()

    def _begin(self) -> None:
        import asyncio

        loop, arrived = asyncio.get_running_loop(), asyncio.Event()

        def notify() -> None:
            # A loop that was closed has no reader any more.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(arrived.set)

        self._arrived, self._batch.notify = arrived, notify
        self._batch.loop.start_thread()

    async def _until_ended(self, job: PoolJob) -> None:
        arrived = self._arrived
        assert arrived is not None
        while not job.ended:
            arrived.clear()
            # It may have ended before the event was cleared.
            if not job.ended:
                await arrived.wait()
