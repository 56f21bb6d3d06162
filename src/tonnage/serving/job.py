"""A request as the loop of steps knows it."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from tonnage.generation import Answer, TokenLogprob

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

    def deliver(self, token: int | None, text: str) -> None:
        """Hand a token and the text it added to the reader."""
        if self.ahead is None:
            return
        tokens = () if token is None else (token,)
        generation = self.answer.generation
        wanted = generation.options.logprobs is not None and token is not None
        logprobs = (generation.logprobs[-1],) if wanted else ()
        self.out.append(Piece(text, tokens, logprobs))
