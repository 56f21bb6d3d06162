"""The plans of several models that one process serves: which are co-resident, and how wide.

docs/planning.md states the policy. In short: co-residence costs context and pages, never quality.
Models are co-resident where the weights that they would have alone fit together with a useful
context; a model that does not fit is swapped. Only a model that is alone in memory beside pinned
ones, or is pinned, is cut down as a single model is.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from functools import partial

from tonnage.core.errors import BudgetError
from tonnage.core.kv_format import PAGE_TOKENS
from tonnage.core.layout import Layout
from tonnage.core.machine import Machine
from tonnage.core.model_spec import ModelSpec
from tonnage.core.plan import OTHER_ENGINES, SHARED_ITEMS, Plan
from tonnage.core.quality import AuditResult
from tonnage.core.record import record
from tonnage.core.rounding import round_up
from tonnage.core.units import format_bytes
from tonnage.core.workload import Workload
from tonnage.planner.models.fair_share import ModelBytes, Share, SharingModel, divide, peak_bytes
from tonnage.planner.search.budget import Budget
from tonnage.planner.search.candidate import Predict
from tonnage.planner.search.choose import (
    PlanChoice,
    Question,
    choose,
    require_fit,
    smallest_plan,
    usual_workload,
)
from tonnage.planner.search.constraints import Constraints

USEFUL_CONTEXT_TOKENS = 2048  # with less, a model is swapped instead


@record
class ModelInput:
    """A model that is to be served. audits: of its weights. pinned: it stays in memory."""

    spec: ModelSpec
    constraints: Constraints
    audits: Sequence[AuditResult] = ()
    pinned: bool = False


@record
class Placement:
    """A model's own plan, and its place among the others.

    co_resident: in memory beside all others of which that is true; else it is loaded in place of
    in_place_of of them.
    """

    choice: PlanChoice
    co_resident: bool = True
    in_place_of: int = 0

    @property
    def need(self) -> ModelBytes:
        """What it takes of its own."""
        return _need(self.choice.plan)

    @property
    def memory_bytes(self) -> int:
        """What the process takes while this model alone is loaded."""
        return _process_bytes(self.choice.plan) + self.need.loading_bytes


@record
class ModelSetPlan:
    """All models, by name. process_bytes: without models.

    all_resident_bytes: the least of the whole process with which all of them are side by side.
    """

    placements: Mapping[str, Placement]
    process_bytes: int
    all_resident_bytes: int


def plan_model_set(
    models: Mapping[str, ModelInput],
    machine: Machine,
    layout: Layout,
    budget: Budget,
    predict: Predict,
    *,
    resident_bytes: int = 0,
) -> ModelSetPlan:
    """Return the plans of `models`, such that the process never takes more than the budget.

    layout, predict, resident_bytes: as of `Question`. Raises RequestError for a constraint that a
    model does not take, BudgetError with the numbers when the smallest plans of the pinned models
    and of any one other do not fit together.
    """
    planner = _Planner(machine, layout, budget, predict, resident_bytes)
    if len(models) == 1:
        ((name, model),) = models.items()
        return only_model(name, planner.choose(model, 0))
    smallest = {name: planner.smallest(model) for name, model in models.items()}
    _require_fit(models, smallest, budget)
    process_bytes = max(_process_bytes(plan) for plan in smallest.values())
    capacity_bytes = budget.num_bytes - process_bytes
    wide = {name: planner.wide(one, smallest[name]) for name, one in models.items()}
    few_rows = [one.with_rows(-1) for one in wide.values()]
    fixed: dict[str, Placement] = {}
    found = _division(wide, {}, capacity_bytes)
    if found is None:
        fixed = planner.pinned_alone(models, smallest, process_bytes)
        found = _division(wide, fixed, capacity_bytes)
    assert found is not None  # the smallest plans fit, and those fixed leave enough for them
    chosen, shares = found
    placements = {
        name: fixed.get(name) or planner.place(model, chosen[name], shares[name])
        for name, model in models.items()
    }
    all_bytes = peak_bytes(
        (one.least for one in few_rows if not one.pinned),
        (one.least for one in few_rows if one.pinned),
    )
    return ModelSetPlan(placements, process_bytes, process_bytes + all_bytes)


def only_model(name: str, choice: PlanChoice) -> ModelSetPlan:
    """Return the set of one model, by what was chosen for it."""
    only = Placement(choice)
    return ModelSetPlan({name: only}, _process_bytes(choice.plan), only.memory_bytes)


def _process_bytes(plan: Plan) -> int:
    shared = (item for item in plan.items if item.name in SHARED_ITEMS)
    return sum(item.planned_bytes for item in shared if item.name != OTHER_ENGINES)


def _need(plan: Plan) -> ModelBytes:
    return ModelBytes(plan.own_bytes, plan.load_bytes)


def _require_fit(
    models: Mapping[str, ModelInput], smallest: Mapping[str, Plan], budget: Budget
) -> None:
    """Raise BudgetError unless the pinned models and any one other fit in their smallest plans."""
    process = max(_process_bytes(plan) for plan in smallest.values())
    sizes = {name: _need(plan).loading_bytes for name, plan in smallest.items()}
    kept = {name: size for name, size in sizes.items() if models[name].pinned}
    loose = {name: size for name, size in sizes.items() if name not in kept}
    largest = max(loose, key=lambda name: loose[name], default=None)
    most = process + sum(kept.values()) + (loose[largest] if largest is not None else 0)
    if most <= budget.num_bytes:
        return
    lines = [f"the process {format_bytes(process)}"]
    lines += [f"{name} {format_bytes(size)}, pinned" for name, size in kept.items()]
    lines += [f"{largest} {format_bytes(loose[largest])}"] if largest is not None else []
    way = "pin fewer models or " if kept else ""
    raise BudgetError(
        f"These models need {format_bytes(most)} at least ({'; '.join(lines)}) and "
        f"{format_bytes(budget.num_bytes)} {budget.origin}, "
        f"{format_bytes(most - budget.num_bytes)} short; {way}allow --memory {-(-most >> 20)}MiB."
    )


def _division(
    wide: "Mapping[str, _Wide]", fixed: Mapping[str, Placement], capacity_bytes: int
) -> "tuple[dict[str, _Wide], dict[str, Share]] | None":
    """Return the models and their shares: the most co-resident, with the most rows per step."""
    best: tuple[dict[str, _Wide], dict[str, Share]] | None = None
    most = 0
    for tier in range(max(len(one.row_counts) for one in wide.values())):
        tried = {name: one.with_rows(tier) for name, one in wide.items()}
        pinned = {name: _Fixed(one) for name, one in fixed.items()}
        sharing: dict[str, SharingModel] = {**tried, **pinned}
        shares = divide(sharing, capacity_bytes)
        co_resident = 0 if shares is None else sum(share.co_resident for share in shares.values())
        if shares is not None and (best is None or co_resident > most):
            best, most = (tried, shares), co_resident
        if most == len(wide):
            break
    return best


@record
class _Fixed:
    """A pinned model whose plan is made; it is loaded before there are others."""

    placement: Placement
    pinned: bool = True
    least_tokens: int = 0
    usual_tokens: int = 0
    most_tokens: int = 0
    smallest_bytes: int = 0
    cut_bytes: int = 0

    def need(self, tokens: int) -> ModelBytes:
        return ModelBytes(self.placement.need.resident_bytes, 0)


@record
class _Wide:
    """A model with the weights of its file, and as many tokens as it gets.

    widest: its usual workload. Its tokens are its context, beyond that pages for other sequences.
    plan: returns its plan for a workload; smallest: its plan of fewest bytes with that context,
    with the shortest for None.
    """

    model: ModelInput
    widest: Workload
    row_counts: tuple[int, ...]
    smallest_bytes: int
    plan: Callable[[Workload], Plan]
    smallest: Callable[[int | None], Plan]
    _needs: dict[int, ModelBytes] = field(default_factory=dict)

    @property
    def pinned(self) -> bool:
        return self.model.pinned

    @property
    def usual_tokens(self) -> int:
        return self.widest.context_tokens

    @property
    def cut_bytes(self) -> int:
        return _need(self.smallest(self.least_tokens)).loading_bytes

    @property
    def least_tokens(self) -> int:
        usual = self.widest.context_tokens
        return (
            usual
            if self.model.constraints.context is not None
            else min(usual, USEFUL_CONTEXT_TOKENS)
        )

    @property
    def most_tokens(self) -> int:
        context = self.widest.context_tokens
        if self.widest.shared_pages is None:
            return context
        return context + (self.widest.concurrency - 1) * round_up(context, PAGE_TOKENS)

    @property
    def least(self) -> ModelBytes:
        return self.need(self.least_tokens)

    def with_rows(self, tier: int) -> "_Wide":
        counts = self.row_counts
        rows = counts[min(tier, len(counts) - 1)]
        return replace(self, widest=replace(self.widest, max_rows=rows), _needs={})

    def workload(self, tokens: int) -> Workload:
        context = min(tokens, self.widest.context_tokens)
        shared = self.widest.shared_pages
        if shared is not None:
            shared = (tokens - context) // PAGE_TOKENS
        return replace(self.widest, context_tokens=context, shared_pages=shared)

    def need(self, tokens: int) -> ModelBytes:
        if tokens not in self._needs:
            # Plans are not kept: dozens of them would weigh megabytes.
            self._needs[tokens] = _need(self.plan(self.workload(tokens)))
        return self._needs[tokens]


@record
class _Planner:
    machine: Machine
    layout: Layout
    budget: Budget
    predict: Predict
    resident_bytes: int

    def choose(self, model: ModelInput, beside_bytes: int) -> PlanChoice:
        """Return what is chosen as for a single model beside others."""
        question = replace(self._question(model), beside_bytes=beside_bytes)
        choice = _fitting(question, self.budget)
        # Bytes left to other models bound the choice; they are no item of this model's plan.
        workload = replace(choice.workload, beside_bytes=0)
        return replace(choice, workload=workload, plan=self.layout.plan(model.spec, workload))

    def smallest(self, model: ModelInput, context_tokens: int | None = None) -> Plan:
        question = self._question(model)
        if context_tokens is not None:
            stated = replace(model.constraints, context=context_tokens)
            question = replace(question, constraints=stated)
        return smallest_plan(question)

    def wide(self, model: ModelInput, smallest: Plan) -> _Wide:
        workload, rows = usual_workload(self._question(model))
        smallest_bytes = _need(smallest).loading_bytes
        return _Wide(
            model,
            workload,
            rows,
            smallest_bytes,
            partial(self.layout.plan, model.spec),
            partial(self.smallest, model),
        )

    def pinned_alone(
        self, models: Mapping[str, ModelInput], smallest: Mapping[str, Plan], process_bytes: int
    ) -> dict[str, Placement]:
        """Return plans of pinned models, one after the other, which leave enough for the rest."""
        sizes = {name: _need(plan).loading_bytes for name, plan in smallest.items()}
        loose = max((sizes[name] for name, one in models.items() if not one.pinned), default=0)
        later = {name: sizes[name] for name, one in models.items() if one.pinned}
        placements: dict[str, Placement] = {}
        for name in list(later):
            del later[name]
            kept = sum(one.need.resident_bytes for one in placements.values())
            uneven = process_bytes - _process_bytes(smallest[name])
            beside = kept + sum(later.values()) + loose + uneven
            placements[name] = Placement(self.choose(models[name], beside))
        return placements

    def place(self, model: ModelInput, wide: _Wide, share: Share) -> Placement:
        """Return the plan of a model for its share."""
        if share.tokens is None:
            plan = self.layout.plan(model.spec, wide.widest)
            beside = self.budget.num_bytes - _process_bytes(plan) - share.available_bytes
            choice = self.choose(model, beside)
        else:
            choice = self._stated(model, wide, share.tokens)
        return Placement(choice, share.co_resident, share.in_place_of)

    def _stated(self, model: ModelInput, wide: _Wide, tokens: int) -> PlanChoice:
        """Return the choice of what `wide` has with so many tokens."""
        workload = wide.workload(tokens)
        stated = replace(
            model.constraints,
            context=workload.context_tokens,
            threads=workload.threads,
            precision=None,
            formats=workload.formats,
            kv_format=workload.kv_format,
            max_batch_tokens=workload.max_rows,
        )
        plan = self.layout.plan(model.spec, workload)
        budget = replace(self.budget, num_bytes=plan.total_bytes)
        choice = _fitting(replace(self._question(model), constraints=stated), budget)
        # Stated as of a single model: what was asked for, and what it would have had.
        usual = wide.widest
        return replace(
            choice,
            constraints=model.constraints,
            usual_context_tokens=usual.context_tokens,
            usual_kv_format=usual.kv_format,
        )

    def _question(self, model: ModelInput) -> Question:
        return Question(
            model.spec,
            self.machine,
            self.layout,
            model.constraints,
            self.predict,
            model.audits,
            resident_bytes=self.resident_bytes,
        )


def _fitting(question: Question, budget: Budget) -> PlanChoice:
    choice = choose(question, budget, compare=False)
    require_fit(choice, budget)
    return choice
