"""The plans beside the chosen one, one change each, and why they were not chosen."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from tonnage.core.block_format import BY_NAME
from tonnage.core.plan import KV_FORMATS, MatrixPlan, Plan
from tonnage.core.quality import PlanQuality
from tonnage.core.record import record
from tonnage.core.units import format_bytes
from tonnage.planner.search.candidate import Candidate, Evaluator, Speed
from tonnage.planner.search.constraints import (
    DEFAULT_CONTEXT_TOKENS,
    MIN_STEP_ROWS,
    USUAL_STEP_ROWS,
    Constraints,
)

_SMALLER_WEIGHTS = 0.85  # about one format further down


@record
class Bounds:
    """What a plan must keep to: bytes of the process, mean divergence in nats."""

    num_bytes: int
    max_kld: float


@record
class Alternative:
    """A plan that was not chosen. change: how it differs; reason: what speaks against it."""

    change: str
    reason: str
    total_bytes: int
    forecast: Speed | None
    quality: PlanQuality
    weights: str
    context_tokens: int
    kv_format: str
    max_batch_tokens: int
    threads: int


def alternatives_of(
    evaluator: Evaluator, chosen: Candidate, constraints: Constraints, bounds: Bounds
) -> tuple[Alternative, ...]:
    """Return the alternatives of `chosen`, one for each change of something that was left open."""
    return tuple(
        Alternative(
            change=change,
            reason=_reason(chosen, other, bounds),
            total_bytes=other.total_bytes,
            forecast=other.forecast,
            quality=other.quality,
            weights=weights_words(evaluator.plan(other.workload)),
            context_tokens=other.workload.context_tokens,
            kv_format=other.workload.kv_format,
            max_batch_tokens=other.workload.max_rows,
            threads=other.workload.threads,
        )
        for change, other in _changes(evaluator, chosen, constraints, bounds)
    )


def weight_bits(plan: Plan) -> float:
    """Return the mean bits of an element of the matrices."""
    bits = sum(8 * m.rows * _row_bytes(m) for m in plan.matrices)
    return bits / sum(m.rows * m.cols for m in plan.matrices)


def _row_bytes(matrix: MatrixPlan) -> int:
    fmt = BY_NAME[matrix.format]
    return fmt.blocks(matrix.cols) * fmt.block_bytes


def held_bits(plan: Plan) -> float:
    """Return the mean bits that an element of the matrices takes in memory, padding included."""
    elements = sum(m.count * m.rows * m.cols for m in plan.matrices)
    return 8 * sum(m.nbytes for m in plan.matrices) / elements


def weights_words(plan: Plan) -> str:
    """Return the mean bits of a weight, and the formats that hold most of them."""
    counts: Counter[str] = Counter()
    for matrix in plan.matrices:
        counts[matrix.format] += matrix.rows * matrix.cols
    names = sorted(counts, key=lambda name: (-counts[name], name))
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{weight_bits(plan):.2f} bits ({', '.join(names[:3])}{more})"


def _changes(
    evaluator: Evaluator, chosen: Candidate, constraints: Constraints, bounds: Bounds
) -> Iterator[tuple[str, Candidate]]:
    workload = chosen.workload
    if constraints.weights_open:
        if workload.formats:
            yield "weights of the file", evaluator.candidate(workload, formats=())
        less = chosen.weight_bytes - int(_SMALLER_WEIGHTS * chosen.weight_bytes)
        smaller = evaluator.fill(workload, chosen.total_bytes - less)
        if smaller is not None:
            bits = weight_bits(evaluator.plan(smaller.workload))
            yield f"weights of {bits:.2f} bits", smaller
    if constraints.kv_format is None:
        other = next(kv for kv in KV_FORMATS if kv != workload.kv_format)
        yield f"KV pages in {other}", evaluator.candidate(workload, kv_format=other)
    if constraints.context is None:
        longer, shorter = 2 * workload.context_tokens, workload.context_tokens // 2
        if longer <= evaluator.spec.context_length:
            candidate = evaluator.candidate(workload, context_tokens=longer)
            if constraints.weights_open and longer <= DEFAULT_CONTEXT_TOKENS:
                candidate = _fitted(evaluator, candidate, constraints, bounds)
            yield f"context of {longer:,} tokens", candidate
        if shorter >= 2:
            candidate = evaluator.candidate(workload, context_tokens=shorter)
            yield f"context of {shorter:,} tokens", candidate
    if constraints.max_batch_tokens is None:
        yield from _other_rows(evaluator, chosen)
    if constraints.threads is None and chosen.forecast is not None:
        for threads in (workload.threads - 1, workload.threads + 1):
            if threads >= 1:
                yield (
                    f"{threads} thread{'s' * (threads > 1)}",
                    _with_threads(evaluator, chosen, threads),
                )


def _fitted(
    evaluator: Evaluator, candidate: Candidate, constraints: Constraints, bounds: Bounds
) -> Candidate:
    """Return `candidate`, or where it is over the budget what fits of its context, if any does."""
    workload = candidate.workload
    if candidate.total_bytes <= bounds.num_bytes:
        return candidate
    rows = workload.max_rows
    if constraints.max_batch_tokens is None:
        least = max(USUAL_STEP_ROWS[-1], workload.max_logit_rows, workload.concurrency)
        rows = min(rows, least)
    of_file = replace(workload, formats=(), max_rows=rows)
    return evaluator.fill(of_file, bounds.num_bytes) or candidate


def _other_rows(evaluator: Evaluator, chosen: Candidate) -> Iterator[tuple[str, Candidate]]:
    workload = chosen.workload
    least = max(MIN_STEP_ROWS, workload.max_logit_rows, workload.concurrency)
    for rows in (2 * workload.max_rows, workload.max_rows // 2):
        if least <= rows <= 512:
            yield f"{rows} rows per step", evaluator.candidate(workload, max_rows=rows)


def _with_threads(evaluator: Evaluator, chosen: Candidate, threads: int) -> Candidate:
    return evaluator.candidate(replace(chosen.workload, threads=threads))


def _reason(chosen: Candidate, other: Candidate, bounds: Bounds) -> str:
    """Return the first thing that speaks against `other`, in the order of the policy."""
    before, context = chosen.workload.context_tokens, other.workload.context_tokens
    if other.total_bytes > bounds.num_bytes:
        return f"{format_bytes(other.total_bytes - bounds.num_bytes)} over the budget"
    if other.quality.mean_kld > bounds.max_kld:
        return f"beyond the bound of {bounds.max_kld:g} nats"
    if context == before and chosen.dominates(other):
        return "better in nothing"
    gained = chosen.quality.mean_kld - other.quality.mean_kld
    if gained < 0:
        return (
            "more loss, not asked for (--context)"
            if context > before
            else "more loss than is needed"
        )
    if context != before:
        return "a longer one fits" if context < before else "not asked for (--context)"
    if gained > 0:
        return f"{format_bytes(other.total_bytes - chosen.total_bytes)} more for {gained:.2g} nats"
    if other.forecast is None:
        return "slower, not measured by how much"
    slower = other.request_s / chosen.request_s - 1
    return f"a request takes {abs(slower):.1%} {'longer' if slower > 0 else 'less'}"
