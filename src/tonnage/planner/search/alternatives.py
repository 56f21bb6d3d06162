"""The plans beside the chosen one, one change each, and why they were not chosen."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from tonnage.core.block_format import BY_NAME
from tonnage.core.plan import KV_FORMATS, Plan
from tonnage.core.quality import PlanQuality
from tonnage.core.units import format_bytes
from tonnage.planner.search.candidate import Judge, Option, Speed
from tonnage.planner.search.constraints import MIN_STEP_ROWS, Wishes

_SMALLER_WEIGHTS = 0.85  # about one rung of the ladder


@dataclass(frozen=True, slots=True)
class Limits:
    """What a plan must keep to: bytes of the process, mean divergence in nats."""

    num_bytes: int
    max_kld: float


@dataclass(frozen=True, slots=True)
class Neighbour:
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


def neighbours_of(
    judge: Judge, chosen: Option, wishes: Wishes, limits: Limits
) -> tuple[Neighbour, ...]:
    """Return the neighbours of `chosen`, one for each change of something that was left open."""
    return tuple(
        Neighbour(
            change=change,
            reason=_reason(chosen, other, limits),
            total_bytes=other.total_bytes,
            forecast=other.forecast,
            quality=other.quality,
            weights=weights_words(judge.plan(other.workload)),
            context_tokens=other.workload.context_tokens,
            kv_format=other.workload.kv_format,
            max_batch_tokens=other.workload.max_rows,
            threads=other.workload.threads,
        )
        for change, other in _changes(judge, chosen, wishes)
    )


def weight_bits(plan: Plan) -> float:
    """Return the mean bits of an element of the matrices."""
    bits = sum(8 * BY_NAME[m.format].nbytes((m.rows, m.cols)) for m in plan.matrices)
    return bits / sum(m.rows * m.cols for m in plan.matrices)


def weights_words(plan: Plan) -> str:
    """Return the mean bits of a weight, and the formats that hold most of them."""
    counts: Counter[str] = Counter()
    for matrix in plan.matrices:
        counts[matrix.format] += matrix.rows * matrix.cols
    names = sorted(counts, key=lambda name: (-counts[name], name))
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{weight_bits(plan):.2f} bits ({', '.join(names[:3])}{more})"


def _changes(judge: Judge, chosen: Option, wishes: Wishes) -> Iterator[tuple[str, Option]]:
    workload = chosen.workload
    if wishes.weights_open:
        if workload.formats:
            yield "weights of the file", judge.option(workload, formats=())
        less = chosen.weight_bytes - int(_SMALLER_WEIGHTS * chosen.weight_bytes)
        smaller = judge.fill(workload, chosen.total_bytes - less)
        if smaller is not None:
            bits = weight_bits(judge.plan(smaller.workload))
            yield f"weights of {bits:.2f} bits", smaller
    if wishes.kv_format is None:
        other = next(kv for kv in KV_FORMATS if kv != workload.kv_format)
        yield f"KV pages in {other}", judge.option(workload, kv_format=other)
    if wishes.context is None:
        for context in (2 * workload.context_tokens, workload.context_tokens // 2):
            if 2 <= context <= judge.spec.context_length:
                option = judge.option(workload, context_tokens=context)
                yield f"context of {context:,} tokens", option
    if wishes.max_batch_tokens is None:
        yield from _other_rows(judge, chosen)
    if wishes.threads is None and chosen.forecast is not None:
        for threads in (workload.threads - 1, workload.threads + 1):
            if threads >= 1:
                yield (
                    f"{threads} thread{'s' * (threads > 1)}",
                    _with_threads(judge, chosen, threads),
                )


def _other_rows(judge: Judge, chosen: Option) -> Iterator[tuple[str, Option]]:
    workload = chosen.workload
    least = max(MIN_STEP_ROWS, workload.max_logit_rows, workload.concurrency)
    for rows in (2 * workload.max_rows, workload.max_rows // 2):
        if least <= rows <= 512:
            yield f"{rows} rows per step", judge.option(workload, max_rows=rows)


def _with_threads(judge: Judge, chosen: Option, threads: int) -> Option:
    return judge.option(replace(chosen.workload, threads=threads))


def _reason(chosen: Option, other: Option, limits: Limits) -> str:
    """Return the first thing that speaks against `other`, in the order of the policy."""
    before, context = chosen.workload.context_tokens, other.workload.context_tokens
    if other.total_bytes > limits.num_bytes:
        return f"{format_bytes(other.total_bytes - limits.num_bytes)} over the budget"
    if other.quality.mean_kld > limits.max_kld:
        return f"beyond the bound of {limits.max_kld:g} nats"
    if context == before and chosen.dominates(other):
        return "better in nothing"
    gained = chosen.quality.mean_kld - other.quality.mean_kld
    if gained < 0:
        return "more loss than is needed"
    if context != before:
        return "a longer one fits" if context < before else "not asked for (--context)"
    if gained > 0:
        return f"{format_bytes(other.total_bytes - chosen.total_bytes)} more for {gained:.2g} nats"
    if other.forecast is None:
        return "slower, not measured by how much"
    slower = other.request_s / chosen.request_s - 1
    return f"a request takes {abs(slower):.1%} {'longer' if slower > 0 else 'less'}"
