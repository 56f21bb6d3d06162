"""Where draft tokens come from."""

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Protocol

from tonnage.engine.job import Job
from tonnage.scheduler.scheduled import ScheduledChunk
from tonnage.scheduler.scheduler import Scheduler


class DraftSource(Protocol):
    """Guesses how requests go on, such as from their own text or with a smaller model.

    What it proposes changes no token and no bit, only how many tokens a step may give.
    """

    def propose(self, tokens: Sequence[int], most: int) -> Sequence[int]:
        """Return up to `most` token ids that may follow, none where it has no guess.

        tokens: of the prompt and the completion so far; valid during the call, not to be changed.
        What follows an id that is no token of the vocabulary is no draft. Called between steps, so
        its time counts to the next token; what it raises ends all requests.
        """


def propose(source: DraftSource, scheduler: Scheduler, vocab_size: int) -> None:
    """Ask `source` for drafts of all requests that decode, for the next step."""
    is_token = range(vocab_size).__contains__
    for sequence in scheduler.decoding():
        most = scheduler.drafts.most(sequence)
        if most > 0:
            proposed = source.propose(sequence.tokens, most)
            scheduler.drafts.propose(sequence, [*takewhile(is_token, proposed)])


def continues(
    job: Job, chunk: ScheduledChunk, number: int, sampled: Mapping[int, Sequence[int]]
) -> bool:
    """Whether a draft's row is to be sampled: all rows before gave drafts, and none the end."""
    tokens = sampled.get(chunk.request_id, ())
    is_right = len(tokens) == number and chunk.draft(number) == tokens[-1]
    return is_right and not job.has_finished
