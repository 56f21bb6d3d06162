"""Requests as the loop of steps knows them: answers, and texts that become vectors."""

from array import array
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter_ns

from tonnage.core.errors import TonnageError
from tonnage.core.pooling import Pooling
from tonnage.engine.generation import Answer, TokenLogprob
from tonnage.scheduler.sequence import Request

OnStep = Callable[[int, float], None]


@dataclass(frozen=True, slots=True)
class Piece:
    """What one step added to an answer: text that can be shown, and the tokens behind it.

    text may be empty (half a character, a possible stop string); a later piece then holds it.
    tokens may be empty (the end of a text that was held back). logprobs: one per token where the
    options ask for them, else empty.
    """

    text: str
    tokens: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...]


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms a request is served; deadline_ns: by the clock of the loop."""

    priority: int = 0
    deadline_ns: int | None = None
    tenant: str = ""
    salt: str = ""


def deadline_ns(seconds: float) -> int:
    """Return the time in so many seconds, by the clock of the loop."""
    return perf_counter_ns() + int(seconds * 1e9)


@dataclass(eq=False, slots=True)
class Job:
    """An answer in the making, what its reader has not taken yet, and how the reader is told.

    ahead: pieces that may wait for the reader; with more the request gets no rows. None: nobody
    reads pieces. notify: called by whoever runs the step, at most once per step. on_step: told the
    position and seconds of steps that made one token of this answer and nothing else.
    """

    id: int
    answer: Answer
    terms: Terms
    ahead: int | None
    notify: Callable[[], None] | None = None
    on_step: OnStep | None = None
    out: deque[Piece] = field(default_factory=deque)
    ended: bool = False
    stalled: bool = False
    failure: BaseException | None = None

    def begin(self, now_ns: int) -> None:
        """Count time from now on."""
        self.answer.resume(now_ns)

    def request(self, now_ns: int) -> Request:
        """Return what the scheduler is asked for: the rest of the answer."""
        answer, terms = self.answer, self.terms
        done = answer.generation.tokens
        known = array("i", answer.generation.prompt)
        known.extend(done)
        return Request(
            self.id, known, answer.max_tokens - len(done), now_ns,
            terms.priority, terms.deadline_ns, terms.tenant, terms.salt,
            live=self.ahead is not None,
        )  # fmt: skip

    def fail(self, error: BaseException) -> None:
        """Take what ended the answer."""
        generation = self.answer.generation
        generation.finish_reason = "error"
        generation.error = error if isinstance(error, TonnageError) else None
        self.failure = error

    def deliver(self, token: int | None, text: str) -> None:
        """Hand a token and the text it added to the reader."""
        if self.ahead is None:
            return
        tokens = () if token is None else (token,)
        generation = self.answer.generation
        wanted = generation.options.logprobs is not None and token is not None
        logprobs = (generation.logprobs[-1],) if wanted else ()
        self.out.append(Piece(text, tokens, logprobs))


@dataclass(eq=False, slots=True)
class PoolJob:
    """A text whose hidden states are summed up, and the sum once it has ended well.

    prompt: token ids. sums: float64 of the model's width, as bytes. joined: a part of a request
    that has its place in the queue already. notify: as in `Job`.
    """

    id: int
    prompt: Sequence[int]
    pooling: Pooling
    terms: Terms
    joined: bool = False
    notify: Callable[[], None] | None = None
    sums: bytes = b""
    ended: bool = False
    stalled: bool = False
    failure: BaseException | None = None

    def begin(self, now_ns: int) -> None:
        """Count no time."""

    def request(self, now_ns: int) -> Request:
        """Return what the scheduler is asked for."""
        terms = self.terms
        return Request(
            self.id, array("i", self.prompt), 0, now_ns, terms.priority, terms.deadline_ns,
            terms.tenant, pooling=self.pooling, joined=self.joined,
        )  # fmt: skip

    def fail(self, error: BaseException) -> None:
        """Take what ended the work."""
        self.failure = error


AnyJob = Job | PoolJob
