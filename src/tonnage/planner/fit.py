"""What a user left open is filled in here, and what does not fit is refused."""

from dataclasses import dataclass

from tonnage.core.errors import BudgetError, RequestError
from tonnage.core.machine import Machine
from tonnage.core.model_spec import ModelSpec
from tonnage.core.plan import Item, Plan
from tonnage.core.units import format_bytes
from tonnage.planner.plan import Workload

DEFAULT_CONTEXT_TOKENS = 4096
MAX_THREADS = 256


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user asked for; None leaves the choice to the planner."""

    context: int | None = None
    threads: int | None = None
    precision: str | None = None
    concurrency: int = 1
    max_logit_rows: int = 1


def choose_workload(spec: ModelSpec, machine: Machine, wishes: Wishes) -> Workload:
    """Return the workload. Raises RequestError for a wish outside what model and kernels take."""
    if wishes.precision not in (None, "8bit", "4bit"):
        raise RequestError(
            f"The precision {wishes.precision!r} is unknown; use 8bit or 4bit, or leave it out."
        )
    return Workload(
        context_tokens=_context(spec, wishes.context),
        threads=_threads(machine, wishes.threads),
        concurrency=wishes.concurrency,
        max_logit_rows=wishes.max_logit_rows,
        precision=wishes.precision,
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


def require_fit(plan: Plan, process_bytes: int, limit_bytes: int, origin: str) -> None:
    """Raise BudgetError, naming every item, when plan and process exceed `limit_bytes`.

    process_bytes: what is resident already (interpreter, libraries, tokenizer). origin: words for
    whose limit it is.
    """
    items = (*plan.items, Item("interpreter, libraries and tokenizer", "host", process_bytes))
    needed = sum(item.planned_bytes for item in items)
    if needed <= limit_bytes:
        return
    lines = ", ".join(f"{item.name} {format_bytes(item.planned_bytes)}" for item in items)
    raise BudgetError(
        f"The model needs {format_bytes(needed)} ({lines}) and {format_bytes(limit_bytes)} "
        f"{origin}, {format_bytes(needed - limit_bytes)} short; choose a smaller --context or "
        "model."
    )
