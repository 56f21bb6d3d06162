"""What a scheduler is bound by, the parts of a step, and how requests end."""

from dataclasses import dataclass

from tonnage.core.errors import TonnageError
from tonnage.scheduler.sequence import Sequence

DEFAULT_STALL_NS = 200_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """What a step and the queue may hold.

    max_stall_ns: the longest that a running answer waits for its next token while prompts are read.
    """

    max_running: int
    max_rows: int
    max_logit_rows: int
    context_tokens: int
    max_waiting: int = 1024
    max_stall_ns: int = DEFAULT_STALL_NS


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of one sequence in a step: `tokens` from `position` on, into the pages of `tables`.

    ends: whether nothing of the sequence is left to compute after it. tables: the sequence's own,
    valid until the step is committed.
    """

    sequence: Sequence
    tokens: list[int]
    position: int
    ends: bool

    @property
    def draws(self) -> bool:
        """Whether the last row's logits are wanted; logit rows come in the order of the parts."""
        return self.ends and not self.sequence.is_pooled

    @property
    def request_id(self) -> int:
        """Whose rows these are."""
        return self.sequence.request.id

    @property
    def tables(self) -> list[list[int]]:
        """Pages per group."""
        return self.sequence.tables


@dataclass(frozen=True, slots=True)
class Ended:
    """A request that the scheduler ended: refused with `error`, or past its deadline without."""

    request_id: int
    error: TonnageError | None
