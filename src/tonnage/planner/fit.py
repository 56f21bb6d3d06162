"""What a user left open is filled in here, and what does not fit is refused."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tonnage.core.errors import BudgetError, RequestError
from tonnage.core.layout import MAX_STEP_ROWS, PAGE_TOKENS
from tonnage.core.machine import Machine
from tonnage.core.model_spec import ModelSpec
from tonnage.core.plan import Item, Plan
from tonnage.core.units import format_bytes
from tonnage.planner.plan import Workload, make_plan

DEFAULT_CONTEXT_TOKENS = 4096
MAX_THREADS = 256
MAX_CONCURRENCY = 1024
MIN_STEP_ROWS = 16  # below, a prompt is read as slowly as it would be written


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user asked for; None leaves the choice to the planner."""

    context: int | None = None
    threads: int | None = None
    precision: str | None = None
    concurrency: int = 1
    max_logit_rows: int = 1
    step_rows: int | None = None
    server_bytes: int = 0
    server_token_bytes: int = 0


def choose_workload(
    spec: ModelSpec, machine: Machine, wishes: Wishes, resident_bytes: int = 0
) -> Workload:
    """Return the workload of a process that holds `resident_bytes` already.

    Raises RequestError for a wish outside what model and kernels take.
    """
    if wishes.precision not in (None, "8bit", "4bit"):
        raise RequestError(
            f"The precision {wishes.precision!r} is unknown; use 8bit or 4bit, or leave it out."
        )
    if not 1 <= wishes.concurrency <= MAX_CONCURRENCY:
        raise RequestError(
            f"{wishes.concurrency} sequences were asked for; it takes 1 to {MAX_CONCURRENCY}."
        )
    return Workload(
        context_tokens=_context(spec, wishes.context),
        threads=_threads(machine, wishes.threads),
        concurrency=wishes.concurrency,
        max_rows=_rows(wishes.step_rows, wishes.max_logit_rows),
        max_logit_rows=wishes.max_logit_rows,
        precision=wishes.precision,
        resident_bytes=resident_bytes,
        server_bytes=wishes.server_bytes,
        server_token_bytes=wishes.server_token_bytes,
    )


def _context(spec: ModelSpec, wanted: int | None) -> int:
    if wanted is None:
        return min(DEFAULT_CONTEXT_TOKENS, spec.context_length)
    if wanted < 2 or wanted > spec.context_length:
        raise RequestError(
            f"A context of {wanted:,} tokens was asked for; this model takes 2 to "
            f"{spec.context_length:,}."
        )
    return wanted


def _threads(machine: Machine, wanted: int | None) -> int:
    if wanted is None:
        return machine.default_threads
    if not 1 <= wanted <= MAX_THREADS:
        raise RequestError(f"{wanted} threads were asked for; it takes 1 to {MAX_THREADS}.")
    return wanted


def _rows(wanted: int | None, max_logit_rows: int) -> int:
    if wanted is None:
        return MAX_STEP_ROWS
    if not max_logit_rows <= wanted <= MAX_STEP_ROWS:
        raise RequestError(
            f"{wanted} rows per step were asked for; it takes {max_logit_rows} to {MAX_STEP_ROWS}."
        )
    return wanted


@dataclass(frozen=True, slots=True)
class Budget:
    """Bytes that the whole process may come to; origin: words for whose limit it is."""

    num_bytes: int
    origin: str


@dataclass(frozen=True, slots=True)
class Concession:
    """One change that alone makes a plan fit: `option` set to `value`, and its total then."""

    option: str
    value: int
    total_bytes: int
    saved_bytes: int


def concessions(spec: ModelSpec, workload: Workload, budget_bytes: int) -> tuple[Concession, ...]:
    """Return the changes that each make the plan fit, the one that frees the least first.

    Each is the largest value below the present one whose plan, made anew, fits the budget.
    """
    before = make_plan(spec, workload).total_bytes
    found = []
    for option, field, values in _smaller(workload):
        fitting = _largest(spec, workload, field, values, budget_bytes)
        if fitting is not None:
            value, total = fitting
            found.append(Concession(option, value, total, before - total))
    return tuple(sorted(found, key=lambda one: (one.saved_bytes, one.option)))


def _smaller(workload: Workload) -> Iterator[tuple[str, str, Sequence[int]]]:
    """Yield (option, field of Workload, values below the present one ascending)."""
    yield "--context", "context_tokens", range(PAGE_TOKENS, workload.context_tokens, PAGE_TOKENS)
    yield "--concurrency", "concurrency", range(1, workload.concurrency)
    least = max(MIN_STEP_ROWS, workload.max_logit_rows, workload.concurrency)
    yield "--step-rows", "max_rows", range(least, workload.max_rows)


def _largest(
    spec: ModelSpec, workload: Workload, field: str, values: Sequence[int], budget_bytes: int
) -> tuple[int, int] | None:
    """Return the largest of `values` whose plan fits, and that plan's bytes; bytes grow with it."""

    def total(value: int) -> int:
        changes: dict[str, Any] = {field: value}
        return make_plan(spec, replace(workload, **changes)).total_bytes

    count = bisect_right(values, budget_bytes, key=total)
    return (values[count - 1], total(values[count - 1])) if count else None


def require_fit(spec: ModelSpec, workload: Workload, plan: Plan, budget: Budget) -> None:
    """Raise BudgetError when `plan`, made of `spec` and `workload`, exceeds the budget.

    Its sentence names every item, the largest of them, the shortfall and the concessions.
    """
    needed, short = plan.total_bytes, plan.total_bytes - budget.num_bytes
    if short <= 0:
        return
    lines = ", ".join(f"{item.name} {format_bytes(item.planned_bytes)}" for item in plan.items)
    raise BudgetError(
        f"The process needs {format_bytes(needed)} ({lines}) and {format_bytes(budget.num_bytes)} "
        f"{budget.origin}, {format_bytes(short)} short, {binding_item(plan).name} being the "
        f"largest item; {_way_out(concessions(spec, workload, budget.num_bytes))}."
    )


def binding_item(plan: Plan) -> Item:
    """Return the item that takes most."""
    return max(plan.items, key=lambda item: item.planned_bytes)


def _way_out(fitting: Sequence[Concession]) -> str:
    if not fitting:
        return (
            "no smaller --context, --concurrency or --step-rows alone fits, choose a smaller model"
        )
    ways = [f"{c.option} {c.value} ({format_bytes(c.total_bytes)})" for c in fitting]
    return "what fits is " + " or ".join(ways)
