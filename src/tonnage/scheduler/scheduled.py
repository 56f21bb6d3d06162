"""The chunks of a step, and how requests end."""

from array import array

from tonnage.core.errors import TonnageError
from tonnage.core.record import record
from tonnage.scheduler.sequence import Sequence


@record
class ScheduledChunk:
    """Rows of a sequence in a step, of its prompt or the last token and its drafts.

    They are `tokens` from `position` on, and go into the pages of `tables`. ends: whether nothing
    of the sequence is left to compute after it. num_logit_rows: of its last rows, those whose
    logits are wanted: one for the last known token and one for each draft, and before them those of
    a prompt whose log probabilities are wanted. num_drafts: of the last tokens, those that are only
    proposed: what the sequence may turn out to go on with. tables: the sequence's own, valid until
    the step is committed.
    """

    sequence: Sequence
    tokens: "array[int]"
    position: int
    ends: bool
    num_logit_rows: int
    num_drafts: int = 0

    @property
    def num_samples(self) -> int:
        """Of its last rows, those that may give a token of the completion."""
        return 1 + self.num_drafts if self.ends and self.num_logit_rows else 0

    @property
    def num_scored(self) -> int:
        """Of the rows with logits the first ones, which are of the prompt's next tokens."""
        return self.num_logit_rows - self.num_samples

    def draft(self, number: int) -> int:
        """Return the draft in the row of that number, the row of its last known token being 0."""
        return self.tokens[len(self.tokens) - self.num_drafts + number - 1]

    def num_kept(self, num_sampled: int) -> int:
        """Return how many of its rows stay computed when it gave `num_sampled` tokens.

        A draft's row stays when the row before it gave that draft.
        """
        return len(self.tokens) - self.num_drafts + max(0, num_sampled - 1)

    @property
    def request_id(self) -> int:
        """Whose rows these are."""
        return self.sequence.request.id

    @property
    def tables(self) -> list[list[int]]:
        """Pages per group."""
        return self.sequence.tables


class Chunks(dict[int, ScheduledChunk]):
    """The chunks of a step in the making, by request id; num_logit_rows: of all of them."""

    num_logit_rows = 0

    def put(self, chunk: ScheduledChunk) -> None:
        """Add the chunk of a request that has none."""
        self[chunk.request_id] = chunk
        self.num_logit_rows += chunk.num_logit_rows

    def drop_preempted(self) -> None:
        """Leave those whose sequences lost their pages meanwhile."""
        for request_id in [key for key, chunk in self.items() if not chunk.sequence.running]:
            self.num_logit_rows -= self.pop(request_id).num_logit_rows


@record
class Ended:
    """A request that the scheduler ended: refused with `error`, or past its deadline without."""

    request_id: int
    error: TonnageError | None
