"""The plans of several models that one process serves: who is in memory beside whom, and how wide.

docs/planning.md states the policy. In short: company costs context and pages, never quality. Models
are side by side where the weights that they would have alone fit together with a useful context;
who does not fit takes turns, and only who is alone in memory beside pinned ones, or is pinned, is
cut down as a single model is.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from tonnage.core.errors import BudgetError
from tonnage.core.layout import PAGE_TOKENS, round_up
from tonnage.core.machine import Machine
from tonnage.core.model_spec import ModelSpec
from tonnage.core.plan import OTHER_ENGINES, SHARED_ITEMS, Plan
from tonnage.core.quality import AuditResult
from tonnage.core.units import format_bytes
from tonnage.planner.layout.plan import Workload, make_plan
from tonnage.planner.models.fair_share import Contender, Need, Share, divide, peak_bytes
from tonnage.planner.search.budget import Budget
from tonnage.planner.search.candidate import Predict
from tonnage.planner.search.choose import Choice, choose, require_fit, smallest_plan, usual_workload
from tonnage.planner.search.constraints import Wishes

USEFUL_CONTEXT_TOKENS = 2048  # with less, a model had rather take turns than have company


@dataclass(frozen=True, slots=True)
class Member:
    """A model that is to be served. audits: of its weights. pinned: it stays in memory."""

    spec: ModelSpec
    wishes: Wishes
    audits: Sequence[AuditResult] = ()
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class Placed:
    """A model's own plan, and its place among the others.

    together: in memory beside all others of which that is true; else it is loaded in place of
    in_place_of of them.
    """

    choice: Choice
    together: bool = True
    in_place_of: int = 0

    @property
    def need(self) -> Need:
        """What it takes of its own."""
        return _need(self.choice.plan)

    @property
    def memory_bytes(self) -> int:
        """What the process takes while this model alone is loaded."""
        return _process_bytes(self.choice.plan) + self.need.loading_bytes


@dataclass(frozen=True, slots=True)
class Joint:
    """All models, by name. process_bytes: without models.

    all_together_bytes: the least of the whole process with which all of them are side by side.
    """

    placed: Mapping[str, Placed]
    process_bytes: int
    all_together_bytes: int


def plan_several(
    members: Mapping[str, Member],
    machine: Machine,
    budget: Budget,
    predict: Predict,
    *,
    resident_bytes: int = 0,
) -> Joint:
    """Return the plans of `members`, such that the process never takes more than the budget.

    predict, resident_bytes: as of `choose`. Raises RequestError for a wish that a model does not
    take, BudgetError with the numbers when the smallest plans of the pinned models and of any one
    other do not fit together.
    """
    planner = _Planner(machine, budget, predict, resident_bytes)
    if len(members) == 1:
        ((name, member),) = members.items()
        placed = Placed(planner.choose(member, 0))
        process_bytes = _process_bytes(placed.choice.plan)
        return Joint({name: placed}, process_bytes, placed.memory_bytes)
    smallest = {name: planner.smallest(member) for name, member in members.items()}
    _require_room(members, smallest, budget)
    process_bytes = max(_process_bytes(plan) for plan in smallest.values())
    capacity_bytes = budget.num_bytes - process_bytes
    wide = {name: planner.wide(one, smallest[name]) for name, one in members.items()}
    few_rows = [one.with_rows(-1) for one in wide.values()]
    fixed: dict[str, Placed] = {}
    found = _division(wide, {}, capacity_bytes)
    if found is None:
        fixed = planner.pinned_alone(members, smallest, process_bytes)
        found = _division(wide, fixed, capacity_bytes)
    assert found is not None  # the smallest plans fit, and who is fixed leaves room for them
    chosen, shares = found
    placed_all = {
        name: fixed.get(name) or planner.place(member, chosen[name], shares[name])
        for name, member in members.items()
    }
    all_bytes = peak_bytes(
        (one.least for one in few_rows if not one.pinned),
        (one.least for one in few_rows if one.pinned),
    )
    return Joint(placed_all, process_bytes, process_bytes + all_bytes)


def _process_bytes(plan: Plan) -> int:
    shared = (item for item in plan.items if item.name in SHARED_ITEMS)
    return sum(item.planned_bytes for item in shared if item.name != OTHER_ENGINES)


def _need(plan: Plan) -> Need:
    return Need(plan.own_bytes, plan.load_bytes)


def _require_room(
    members: Mapping[str, Member], smallest: Mapping[str, Plan], budget: Budget
) -> None:
    """Raise BudgetError unless the pinned models and any one other fit in their smallest plans."""
    process = max(_process_bytes(plan) for plan in smallest.values())
    sizes = {name: _need(plan).loading_bytes for name, plan in smallest.items()}
    kept = {name: size for name, size in sizes.items() if members[name].pinned}
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
    wide: "Mapping[str, _Wide]", fixed: Mapping[str, Placed], capacity_bytes: int
) -> "tuple[dict[str, _Wide], dict[str, Share]] | None":
    """Return the models and their shares: the most together, with the most rows per step."""
    best: tuple[dict[str, _Wide], dict[str, Share]] | None = None
    most = 0
    for tier in range(max(len(one.row_counts) for one in wide.values())):
        tried = {name: one.with_rows(tier) for name, one in wide.items()}
        pinned = {name: _Fixed(one) for name, one in fixed.items()}
        contenders: dict[str, Contender] = {**tried, **pinned}
        shares = divide(contenders, capacity_bytes)
        together = 0 if shares is None else sum(share.together for share in shares.values())
        if shares is not None and (best is None or together > most):
            best, most = (tried, shares), together
        if most == len(wide):
            break
    return best


@dataclass(frozen=True, slots=True)
class _Fixed:
    """A pinned model whose plan is made; it is loaded before there are others."""

    placed: Placed
    pinned: bool = True
    least_tokens: int = 0
    usual_tokens: int = 0
    most_tokens: int = 0
    smallest_bytes: int = 0
    cut_bytes: int = 0

    def need(self, tokens: int) -> Need:
        return Need(self.placed.need.resident_bytes, 0)


@dataclass(frozen=True, slots=True)
class _Wide:
    """A model with the weights of its file, and as many tokens as it gets.

    widest: its usual workload. Its tokens are its context, and beyond that pages for more answers.
    smallest: returns its plan of fewest bytes with that context, with the shortest for None.
    """

    member: Member
    widest: Workload
    row_counts: tuple[int, ...]
    smallest_bytes: int
    smallest: Callable[[int | None], Plan]
    _needs: dict[int, Need] = field(default_factory=dict)

    @property
    def pinned(self) -> bool:
        return self.member.pinned

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
            usual if self.member.wishes.context is not None else min(usual, USEFUL_CONTEXT_TOKENS)
        )

    @property
    def most_tokens(self) -> int:
        context = self.widest.context_tokens
        if self.widest.shared_pages is None:
            return context
        return context + (self.widest.concurrency - 1) * round_up(context, PAGE_TOKENS)

    @property
    def least(self) -> Need:
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

    def need(self, tokens: int) -> Need:
        if tokens not in self._needs:
            # Plans are not kept: dozens of them would weigh megabytes.
            self._needs[tokens] = _need(make_plan(self.member.spec, self.workload(tokens)))
        return self._needs[tokens]


@dataclass(frozen=True, slots=True)
class _Planner:
    machine: Machine
    budget: Budget
    predict: Predict
    resident_bytes: int

    def choose(self, member: Member, beside_bytes: int) -> Choice:
        """Return what is chosen as for a single model beside others."""
        return self._chosen(member, member.wishes, self.budget, beside_bytes)

    def smallest(self, member: Member, context_tokens: int | None = None) -> Plan:
        wishes = member.wishes
        if context_tokens is not None:
            wishes = replace(wishes, context=context_tokens)
        return smallest_plan(
            member.spec, self.machine, wishes, self.predict, member.audits,
            resident_bytes=self.resident_bytes,
        )  # fmt: skip

    def wide(self, member: Member, smallest: Plan) -> _Wide:
        workload, rows = usual_workload(
            member.spec, self.machine, member.wishes, self.predict, member.audits,
            resident_bytes=self.resident_bytes,
        )  # fmt: skip
        smallest_bytes = _need(smallest).loading_bytes
        return _Wide(member, workload, rows, smallest_bytes, partial(self.smallest, member))

    def pinned_alone(
        self, members: Mapping[str, Member], smallest: Mapping[str, Plan], process_bytes: int
    ) -> dict[str, Placed]:
        """Return plans of the pinned models, one after the other, which leave room for the rest."""
        sizes = {name: _need(plan).loading_bytes for name, plan in smallest.items()}
        loose = max((sizes[name] for name, one in members.items() if not one.pinned), default=0)
        later = {name: sizes[name] for name, one in members.items() if one.pinned}
        placed: dict[str, Placed] = {}
        for name in list(later):
            del later[name]
            kept = sum(one.need.resident_bytes for one in placed.values())
            uneven = process_bytes - _process_bytes(smallest[name])
            beside = kept + sum(later.values()) + loose + uneven
            placed[name] = Placed(self.choose(members[name], beside))
        return placed

    def place(self, member: Member, wide: _Wide, share: Share) -> Placed:
        """Return the plan of a model for its share."""
        if share.tokens is None:
            plan = make_plan(member.spec, wide.widest)
            beside = self.budget.num_bytes - _process_bytes(plan) - share.room_bytes
            choice = self.choose(member, beside)
        else:
            choice = self._stated(member, wide, share.tokens)
        return Placed(choice, share.together, share.in_place_of)

    def _stated(self, member: Member, wide: _Wide, tokens: int) -> Choice:
        """Return the choice of what `wide` has with so many tokens."""
        workload = wide.workload(tokens)
        wishes = replace(
            member.wishes,
            context=workload.context_tokens,
            threads=workload.threads,
            precision=None,
            formats=workload.formats,
            kv_format=workload.kv_format,
            max_batch_tokens=workload.max_rows,
        )
        plan = make_plan(member.spec, workload)
        choice = self._chosen(member, wishes, replace(self.budget, num_bytes=plan.total_bytes), 0)
        # Said as of a single model: what was asked for, and what it would have had.
        usual = wide.widest
        return replace(
            choice,
            wishes=member.wishes,
            usual_context_tokens=usual.context_tokens,
            usual_kv_format=usual.kv_format,
        )

    def _chosen(self, member: Member, wishes: Wishes, budget: Budget, beside_bytes: int) -> Choice:
        choice = choose(
            member.spec, self.machine, wishes, budget, self.predict, member.audits,
            resident_bytes=self.resident_bytes, beside_bytes=beside_bytes, compare=False,
        )  # fmt: skip
        require_fit(choice, budget)
        return choice
