"""The parts of a step, and how requests end."""

from array import array
from dataclasses import dataclass

from tonnage.core.errors import TonnageError
from tonnage.scheduler.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of one sequence in a step: `tokens` from `position` on, into the pages of `tables`.

    ends: whether nothing of the sequence is left to compute after it. tables: the sequence's own,
    valid until the step is committed.
    """

    sequence: Sequence
    tokens: "array[int]"
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
