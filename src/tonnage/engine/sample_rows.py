"""Which rows of a step's logits are sampled from, and which are of a prompt's tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tonnage._native import Sampled, Sampler, SamplingParams
from tonnage.backends.protocol import SampleRow
from tonnage.core.record import record
from tonnage.engine.drafts import continues
from tonnage.engine.job import AnyJob, Job
from tonnage.scheduler.scheduled import ScheduledChunk

Jobs = Mapping[int, AnyJob]
# Request id -> the tokens that a step gave it.
Samples = dict[int, tuple[int, ...]]
Failed = list[tuple[Job, Exception]]


@dataclass(slots=True)
class Round:
    """Rows that are sampled from in one call, whose they are, and whether a chunk has one more."""

    rows: list[SampleRow]
    jobs: list[Job]
    more: bool = False


def sampled_round(
    chunks: Sequence[ScheduledChunk], number: int, jobs: Jobs, sampled: Samples, failed: Failed
) -> Round:
    """Return each chunk's row of that number: its first, then those of drafts that were right.

    failed: gets those whose row could not be made.
    """
    found = Round([], [])
    first_row = 0
    for chunk in chunks:
        num_samples = chunk.num_samples
        first_row += chunk.num_logit_rows - num_samples
        job = jobs.get(chunk.request_id) if num_samples > number else None
        if isinstance(job, Job) and (number == 0 or continues(job, chunk, number, sampled)):
            found.more = found.more or num_samples > number + 1
            try:
                found.rows.append(job.completion.row(first_row + number))
                found.jobs.append(job)
            except Exception as error:
                failed.append((job, error))
        first_row += num_samples
    return found


@record
class ScoredRow:
    """A row whose logits are of the prompt's token at `position`."""

    job: Job
    position: int
    token: int
    row: SampleRow

    def take(self, sampled: Sampled | str) -> None:
        """Give the completion what was found. Raises LogitsError where it is a reason."""
        self.job.score(self.position, self.token, sampled)


def scored_rows(chunks: Sequence[ScheduledChunk], jobs: Jobs, vocab_size: int) -> list[ScoredRow]:
    """Return the rows of a step whose logits are of a token of a prompt."""
    # In most steps there are none, and this runs in every one.
    if all([chunk.sequence.request.logits_from is None for chunk in chunks]):
        return []
    found: list[ScoredRow] = []
    first_row = 0
    for chunk in chunks:
        num_scored = chunk.num_scored
        job = jobs.get(chunk.request_id) if num_scored else None
        if isinstance(job, Job):
            # The first row with logits is of the token behind it.
            begin = chunk.position + len(chunk.tokens) - chunk.num_logit_rows + 1
            num_top = job.completion.generation.options.prompt_logprobs or 0
            for number in range(num_scored):
                token = chunk.sequence.tokens[begin + number]
                row = (_sampler_of(token, vocab_size), first_row + number, num_top)
                found.append(ScoredRow(job, begin + number, token, row))
        first_row += chunk.num_logit_rows
    return found


def _sampler_of(token: int, vocab_size: int) -> Sampler:
    """Return a sampler that gives `token` whatever the logits are, and reports all of them."""
    params = SamplingParams()
    params.temperature = 0
    sampler = Sampler(vocab_size, params)
    sampler.set_mask((1 << token).to_bytes(-(-vocab_size // 8), "little"))
    return sampler
