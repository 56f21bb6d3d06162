"""From a checkpoint to a choice, and from a choice to a loaded model, which runs just that."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from tonnage.backends.cpu.backend import CpuBackend
from tonnage.backends.protocol import Backend, Runtime
from tonnage.core.drafts import DraftCounts
from tonnage.core.errors import BudgetError, FileFormatError
from tonnage.core.layout import Layout
from tonnage.core.machine import Machine
from tonnage.core.model_spec import ModelSpec
from tonnage.core.page_counts import PageCounts
from tonnage.core.record import record
from tonnage.core.units import format_bytes
from tonnage.engine.build import ServingOptions, build_serving
from tonnage.engine.disk_tier import note_model, open_tier
from tonnage.engine.expectation import Expectation, measured_rates, predictor
from tonnage.engine.headers import read_model
from tonnage.engine.stream import Serving
from tonnage.machine.host import read_machine
from tonnage.machine.memory_use import Start, anonymous_bytes
from tonnage.planner.search.budget import Budget, require_within
from tonnage.planner.search.choose import PlanChoice, Question, choose, require_fit
from tonnage.planner.search.constraints import Constraints
from tonnage.store.audits import known_audits
from tonnage.store.source import ModelSource
from tonnage.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from tonnage.core.rates import Rates

OnLoad = Callable[[int, int], None]


@record
class Host:
    """This machine, what it was measured to do (None where it was not), and what computes."""

    machine: Machine
    rates: "Rates | None"
    backend: Backend


def read_host(backend: Backend | None = None) -> Host:
    """Return what this machine is now; backend: what is to compute, the CPU if None."""
    machine = read_machine()
    return Host(machine, measured_rates(machine), backend or CpuBackend(machine.isa))


@record
class Checkpoint:
    """A model that is here, read but for its weights.

    identity: what identifies its weights, noted before it was read; None where prefixes are
    not kept on disk.
    """

    source: ModelSource
    spec: ModelSpec
    tokenizer: Tokenizer
    identity: str | None


def read_checkpoint(source: ModelSource, serving: ServingOptions) -> Checkpoint:
    """Read headers and tokenizer. Raises FileFormatError and its like for what cannot be read."""
    identity = note_model(serving.disk, source.path)
    return Checkpoint(source, *read_model(source), identity)


def choose_for(
    checkpoint: Checkpoint, host: Host, constraints: Constraints, budget: Budget, start: Start
) -> PlanChoice:
    """Return what the planner chooses in this process. Raises BudgetError when nothing fits."""
    question = Question(
        checkpoint.spec,
        host.machine,
        host.backend.layout,
        constraints,
        predictor(host.rates),
        known_audits(checkpoint.source.path),
        resident_bytes=start.resident_bytes,
        beside_bytes=start.beside_bytes,
    )
    choice = choose(question, budget, compare=False)
    require_fit(choice, budget)
    return choice


def require_unchanged(choice: PlanChoice, checkpoint: Checkpoint, layout: Layout) -> None:
    """Raise unless the checkpoint still has the plan that `layout` gave the choice.

    BudgetError where it takes more bytes than planned, FileFormatError for any other change of
    headers. Weights behind the same headers may change.
    """
    now = layout.plan(checkpoint.spec, choice.workload)
    if now == choice.plan:
        return
    more = now.total_bytes - choice.plan.total_bytes
    if more > 0:
        raise BudgetError(
            f"{checkpoint.source.path} has changed since it was planned: it takes "
            f"{format_bytes(now.total_bytes)} now, {format_bytes(more)} short; plan it again."
        )
    raise FileFormatError(
        f"{checkpoint.source.path} has changed since it was planned, so that its plan does not fit "
        "it any more; plan it again."
    )


@record
class LoadedModel:
    """A model in memory, and what was chosen, measured and held on the way.

    start: how the process stood before. page_counts: of pages on disk, None where none are kept.
    draft_counts: of speculation, None without it.
    """

    choice: PlanChoice
    checkpoint: Checkpoint
    runtime: Runtime
    serving: Serving
    expectation: Expectation
    start: Start
    page_counts: PageCounts | None
    draft_counts: DraftCounts | None


def assemble(
    choice: PlanChoice,
    checkpoint: Checkpoint,
    host: Host,
    budget: Budget,
    serving: ServingOptions,
    start: Start,
    on_load: OnLoad | None = None,
) -> LoadedModel:
    """Load the model of the plan by the host's backend, and start what serves it.

    Raises BudgetError when the plan does not fit, FileFormatError when a file ends early.
    """
    plan = choice.plan
    require_within(plan.total_bytes, budget)
    if serving.speculate != "off":
        from tonnage.engine.speculate import require_rows

        require_rows(plan)
    expectation = Expectation(plan, host.machine, host.rates)
    on_place = _with_total(on_load, plan.weight_bytes)
    runtime = host.backend.load(plan, on_place)
    expectation.loaded()
    before = anonymous_bytes()
    store = open_tier(
        serving.disk, checkpoint.identity, checkpoint.source.path, runtime, checkpoint.tokenizer
    )
    held = anonymous_bytes() - before
    start = replace(start, budget_bytes=budget.num_bytes, store_bytes=held)
    served = build_serving(runtime, checkpoint.tokenizer, serving, store=store)
    counts = None if store is None else store.store.counts
    drafts = None
    if serving.speculate != "off":
        from tonnage.engine.speculate import speculate

        drafts = speculate(served.loop, plan, expectation)
    return LoadedModel(choice, checkpoint, runtime, served, expectation, start, counts, drafts)


def _with_total(on_load: OnLoad | None, total_bytes: int) -> Callable[[int], None] | None:
    return None if on_load is None else lambda done_bytes: on_load(done_bytes, total_bytes)
