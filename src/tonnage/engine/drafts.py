"""Where draft tokens come from."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from typing import Protocol

from tonnage.core.drafts import Growing
from tonnage.engine.job import Job
from tonnage.scheduler.scheduled import ScheduledChunk
from tonnage.scheduler.scheduler import Scheduler


class DraftSource(Protocol):
    """Guesses how requests go on, such as from their own text or with a smaller model.

    What it proposes changes no token and no bit, only how many tokens a step may give.
    """

    def propose(
        self, requests: Sequence[Growing], *, beside_prompts: bool
    ) -> Mapping[int, Sequence[int]]:
        """Return request id -> token ids that may follow, where it has a guess.

        Tokens are valid during the call, and not to be changed. beside_prompts: prompts are
        computed in the same step. What follows an id that is no token of the vocabulary is no
        draft. Called between steps, so its time counts to the next token; what it raises ends all
        requests.
        """

    def observe(self, elapsed_ns: int, rows: Iterable[tuple[int, int]]) -> None:
        """Take a step in which requests decoded and nothing else; rows: drafts and right ones."""


def propose(source: DraftSource, scheduler: Scheduler, vocab_size: int) -> None:
    """Ask `source` for drafts of all requests that decode, for the next step."""
    is_token = range(vocab_size).__contains__
    decoding = {one.request.id: one for one in scheduler.decoding()}
    if not decoding:
        return
    most = scheduler.drafts.most
    requests = [Growing(number, one.tokens, most(one)) for number, one in decoding.items()]
    num_stalled = sum(one.stalled for one in scheduler.sequences())
    beside_prompts = scheduler.num_running > len(decoding) + num_stalled
    proposed = source.propose(requests, beside_prompts=beside_prompts)
    for number, tokens in proposed.items():
        scheduler.drafts.propose(decoding[number], [*takewhile(is_token, tokens)])


def observe(
    source: DraftSource | None,
    chunks: Sequence[ScheduledChunk],
    sampled: Mapping[int, Sequence[int]],
    elapsed_ns: int,
) -> None:
    """Let `source` see a step that has run, if requests decoded in it and nothing else."""
    if (
        source is not None
        and chunks
        and all(chunk.num_samples == len(chunk.tokens) for chunk in chunks)
    ):
        rows = ((one.num_drafts, len(sampled.get(one.request_id, "?")) - 1) for one in chunks)
        source.observe(elapsed_ns, [(drafts, max(0, right)) for drafts, right in rows])


def continues(
    job: Job, chunk: ScheduledChunk, number: int, sampled: Mapping[int, Sequence[int]]
) -> bool:
    """Whether a draft's row is to be sampled: all rows before gave drafts, and none the end."""
    tokens = sampled.get(chunk.request_id, ())
    is_right = len(tokens) == number and chunk.draft(number) == tokens[-1]
    return is_right and not job.has_finished
