"""Requests as the loop of steps knows them: completions, and texts that become vectors."""

from array import array
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter_ns

from tonnage._native import Sampled
from tonnage.core.errors import TonnageError
from tonnage.core.pooling import Pooling
from tonnage.core.record import record
from tonnage.engine.generation import Completion, TokenLogprob
from tonnage.scheduler.sequence import Request

OnStep = Callable[[int, float], None]


@record
class Delta:
    """What a step added to a completion: text that can be shown, and the tokens behind it.

    text may be empty (half a character, a possible stop string); a later delta then holds it.
    tokens may be empty (the end of a text that was held back). logprobs: one per token where the
    options ask for them, else empty. prompt_logprobs: of the prompt's next tokens;
    they come before all others. `str` is the text.
    """

    text: str
    tokens: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...]
    prompt_logprobs: tuple[TokenLogprob, ...] = ()

    def __str__(self) -> str:
        """Return the text."""
        return self.text


@record
class RequestParameters:
    """How a request is scheduled; deadline_ns: by the clock of the loop."""

    priority: int = 0
    deadline_ns: int | None = None
    tenant: str = ""
    salt: str = ""


def deadline_ns(seconds: float | None) -> int | None:
    """Return the time in so many seconds, by the clock of the loop; None where there is no end."""
    return None if seconds is None else perf_counter_ns() + int(seconds * 1e9)


@dataclass(eq=False, slots=True)
class Job:
    """A completion in the making, what its reader has not taken yet, and how the reader is woken.

    ahead: deltas that may wait for the reader; with more the request gets no rows. None: no client
    reads deltas. notify: called by the thread that runs the step, at most once per step. on_step:
    gets the position and seconds of steps that made one token of this completion and nothing else.
    """

    id: int
    completion: Completion
    parameters: RequestParameters
    ahead: int | None
    notify: Callable[[], None] | None = None
    on_step: OnStep | None = None
    out: deque[Delta] = field(default_factory=deque)
    ended: bool = False
    stalled: bool = False
    failure: BaseException | None = None

    def begin(self, now_ns: int) -> None:
        """Count time from now on."""
        self.completion.resume(now_ns)

    def request(self, now_ns: int) -> Request:
        """Return what the scheduler is asked for: the rest of the completion."""
        completion, parameters = self.completion, self.parameters
        done = completion.generation.tokens
        known = array("i", completion.generation.prompt)
        known.extend(done)
        return Request(
            self.id, known, completion.max_tokens - len(done), now_ns,
            parameters.priority, parameters.deadline_ns, parameters.tenant, parameters.salt,
            live=self.ahead is not None, logits_from=self._logits_from(),
        )  # fmt: skip

    def _logits_from(self) -> int | None:
        """Return the first row of the prompt whose logits are wanted."""
        completion = self.completion
        wanted = completion.generation.options.prompt_logprobs
        return None if wanted is None or completion.generation.tokens else completion.num_scored

    def score(self, position: int, token: int, sampled: Sampled | str) -> None:
        """Take what the model thought of a token of the prompt, and hand it to the reader.

        Raises LogitsError where there is a reason in place of it.
        """
        entry = self.completion.score(position, token, sampled)
        if entry is not None and self.ahead is not None:
            self.out.append(Delta("", (), (), (entry,)))

    @property
    def has_finished(self) -> bool:
        """Whether its last token was sampled."""
        return self.completion.generation.finish_reason is not None

    def fail(self, error: BaseException) -> None:
        """Take what ended the completion."""
        generation = self.completion.generation
        generation.finish_reason = "error"
        generation.error = error if isinstance(error, TonnageError) else None
        self.failure = error

    def deliver(self, token: int | None, text: str) -> None:
        """Hand a token and the text it added to the reader."""
        if self.ahead is None:
            return
        tokens = () if token is None else (token,)
        generation = self.completion.generation
        wanted = generation.options.logprobs is not None and token is not None
        logprobs = (generation.logprobs[-1],) if wanted else ()
        self.out.append(Delta(text, tokens, logprobs))


@dataclass(eq=False, slots=True)
class PoolJob:
    """A text whose hidden states are summed up, and the sum once it has ended well.

    prompt: token ids. sums: float64 of the model's width, as bytes. joined: a part of a request
    that has its place in the queue already. notify: as in `Job`.
    """

    id: int
    prompt: Sequence[int]
    pooling: Pooling
    parameters: RequestParameters
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
        parameters = self.parameters
        return Request(
            self.id, array("i", self.prompt), 0, now_ns, parameters.priority,
            parameters.deadline_ns, parameters.tenant, pooling=self.pooling, joined=self.joined,
        )  # fmt: skip

    def fail(self, error: BaseException) -> None:
        """Take what ended the work."""
        self.failure = error


AnyJob = Job | PoolJob
