"""From the parts of a step to the runtime."""

from tonnage.backends.protocol import PooledRows, Runtime, Span
from tonnage.scheduler.parts import Part


def run_parts(runtime: Runtime, parts: list[Part]) -> None:
    """Run a step over all rows of `parts`, in their order."""
    tokens: list[int] = []
    spans, logit_rows, pooled = [], [], []
    for part in parts:
        first_row, draws = len(tokens), part.num_logit_rows
        tokens += part.tokens
        spans.append(Span(part.tables, len(part.tokens), part.position, part.sequence.slot))
        if draws == 1:
            logit_rows.append(len(tokens) - 1)
        elif draws:
            logit_rows += range(len(tokens) - draws, len(tokens))
        pooled += _pooled_rows(part, first_row)
    runtime.step(tokens, spans, logit_rows, pooled)


def _pooled_rows(part: Part, first_row: int) -> list[PooledRows]:
    """Return which rows of a part are added up; first_row: of the part in the step."""
    pooling, slot, count = part.sequence.request.pooling, part.sequence.slot, len(part.tokens)
    if pooling == "mean":
        return [PooledRows(first_row, count, slot, part.position == 0)]
    if pooling == "last" and part.ends:
        return [PooledRows(first_row + count - 1, 1, slot, begins=True)]
    return []
