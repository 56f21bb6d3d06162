"""What to give up when nothing fits: single changes, the one that frees the fewest bytes first."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import floor, log10
from typing import Any

from tonnage.core.kv_format import PAGE_TOKENS
from tonnage.core.plan import KV_FORMATS, Item, Plan
from tonnage.core.record import record
from tonnage.core.units import format_bytes
from tonnage.planner.search.candidate import Candidate, Evaluator
from tonnage.planner.search.constraints import MIN_STEP_ROWS, Constraints

NUM_SHOWN = 3


@record
class Relaxation:
    """One change that alone makes a plan fit: `option` set to `value`, and the plan then.

    added_kld: mean divergence that it adds, in nats. slower: by what share a request of 512 tokens
    of prompt and 128 of completion takes longer (below 0: less long), None without a forecast.
    """

    option: str
    value: int | float | str
    total_bytes: int
    saved_bytes: int
    added_kld: float
    slower: float | None


def relaxations(
    evaluator: Evaluator, refused: Candidate, constraints: Constraints, budget_bytes: int
) -> tuple[Relaxation, ...]:
    """Return the at most three changes of `refused` that each make it fit, the cheapest first.

    Each is the least change of its kind: the largest context, the most sequences or rows, the
    weights of least loss; made anew with it, the plan fits.
    """
    found = []
    for option, value, fitting in _fitting(evaluator, refused, constraints, budget_bytes):
        slower = None
        if fitting.forecast is not None and refused.forecast is not None:
            slower = fitting.request_s / refused.request_s - 1
        found.append(
            Relaxation(
                option,
                value,
                fitting.total_bytes,
                refused.total_bytes - fitting.total_bytes,
                max(0.0, fitting.quality.mean_kld - refused.quality.mean_kld),
                slower,
            )
        )
    return tuple(sorted(found, key=lambda one: (one.saved_bytes, one.option))[:NUM_SHOWN])


def _fitting(
    evaluator: Evaluator, refused: Candidate, constraints: Constraints, budget_bytes: int
) -> Iterator[tuple[str, int | float | str, Candidate]]:
    """Yield (option of the command line, value, what fits with it)."""
    for option, field, values in _smaller(refused):
        found = _largest(evaluator, refused, field, values, budget_bytes)
        if found is not None:
            yield (
                option,
                values[found],
                evaluator.candidate(refused.workload, **{field: values[found]}),
            )
    if constraints.kv_format == KV_FORMATS[0]:
        small = evaluator.candidate(refused.workload, kv_format=KV_FORMATS[-1])
        if small.total_bytes <= budget_bytes:
            yield "--kv", KV_FORMATS[-1], small
    if constraints.weights_open:
        own = refused.workload.kv_format
        for kv_format in KV_FORMATS if constraints.kv_format is None else (own,):
            workload = replace(refused.workload, kv_format=kv_format)
            filled = evaluator.fill(workload, budget_bytes)
            if filled is not None:
                yield "--quality", rounded_up(filled.quality.mean_kld), filled
                break


def _smaller(refused: Candidate) -> Iterator[tuple[str, str, Sequence[int]]]:
    """Yield (option, field of Workload, values below the present one ascending)."""
    workload = refused.workload
    yield "--context", "context_tokens", range(PAGE_TOKENS, workload.context_tokens, PAGE_TOKENS)
    yield "--concurrency", "concurrency", range(1, workload.concurrency)
    least = max(MIN_STEP_ROWS, workload.max_logit_rows, workload.concurrency)
    yield "--max-batch-tokens", "max_rows", range(least, workload.max_rows)


def _largest(
    evaluator: Evaluator, refused: Candidate, field: str, values: Sequence[int], budget_bytes: int
) -> int | None:
    """Return the index of the largest of `values` whose plan fits; bytes grow with it."""

    def total(value: int) -> int:
        changes: dict[str, Any] = {field: value}
        return evaluator.plan(replace(refused.workload, **changes)).total_bytes

    count = bisect_right(values, budget_bytes, key=total)
    return count - 1 if count else None


def rounded_up(value: float) -> float:
    """Return `value` with two digits, never less: a bound that is written down and read again."""
    if value <= 0:
        return 0.0
    unit = 10.0 ** (floor(log10(value)) - 1)
    digits = floor(value / unit) + 1
    # The quotient may have been rounded down across a whole number.
    return next(r for r in (float(f"{(digits + i) * unit:.2g}") for i in range(3)) if r > value)


def binding_item(plan: Plan) -> Item:
    """Return the item that takes most."""
    return max(plan.items, key=lambda item: item.planned_bytes)


def way_out(ways: Sequence[Relaxation]) -> str:
    """Return the relaxations as half a sentence."""
    if not ways:
        return (
            "no other --context, --concurrency, --max-batch-tokens, --kv or --quality alone fits, "
            "choose a smaller model"
        )
    return "what fits is " + " or ".join(_words(way) for way in ways)


def _words(way: Relaxation) -> str:
    costs = []
    if way.added_kld:
        costs.append(f"{way.added_kld:.2g} nats more from the file")
    if way.slower is not None and abs(way.slower) >= 0.005:
        costs.append(f"{abs(way.slower):.0%} {'slower' if way.slower > 0 else 'faster'}")
    cost = "".join(f", {words}" for words in costs) or ", at no cost in quality"
    return f"{way.option} {way.value} ({format_bytes(way.total_bytes)}{cost})"
