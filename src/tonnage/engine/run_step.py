"""From the chunks of a step to the runtime."""

from tonnage.backends.protocol import PooledRows, Runtime, Span
from tonnage.scheduler.scheduled import ScheduledChunk


def run_step(runtime: Runtime, chunks: list[ScheduledChunk]) -> None:
    """Run a step over all rows of `chunks`, in their order."""
    tokens: list[int] = []
    spans, logit_rows, pooled = [], [], []
    for chunk in chunks:
        first_row, num_samples = len(tokens), chunk.num_logit_rows
        tokens += chunk.tokens
        spans.append(Span(chunk.tables, len(chunk.tokens), chunk.position, chunk.sequence.slot))
        if num_samples == 1:
            logit_rows.append(len(tokens) - 1)
        elif num_samples:
            logit_rows += range(len(tokens) - num_samples, len(tokens))
        if chunk.sequence.is_pooled:
            pooled += _pooled_rows(chunk, first_row)
    runtime.step(tokens, spans, logit_rows, pooled)


def _pooled_rows(chunk: ScheduledChunk, first_row: int) -> list[PooledRows]:
    """Return which rows of a chunk are added up; first_row: of the chunk in the step."""
    pooling, slot, count = chunk.sequence.request.pooling, chunk.sequence.slot, len(chunk.tokens)
    if pooling == "mean":
        return [PooledRows(first_row, count, slot, chunk.position == 0)]
    if pooling == "last" and chunk.ends:
        return [PooledRows(first_row + count - 1, 1, slot, begins=True)]
    return []
