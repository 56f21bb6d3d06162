"""The choice: what the user left open, under a number of bytes and a bound on quality.

docs/planning.md states the policy. In short: the file's weights, with int8 pages where those cost
next to nothing and f16 elsewhere; then fewer rows per step, which cost a prompt's speed alone; then
the longest context whose best weights lose little; beyond that whatever loses least, within the
bound, with the shortest context. More bytes are never worse.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING

from tonnage.core.errors import BudgetError
from tonnage.core.layout import Layout
from tonnage.core.machine import Machine
from tonnage.core.model_spec import ModelSpec
from tonnage.core.plan import KV_FORMATS, KvFormat, Plan
from tonnage.core.quality import QUALITY_BOUNDS, AuditResult, PlanQuality
from tonnage.core.record import record
from tonnage.core.units import format_bytes
from tonnage.core.workload import MAX_STEP_ROWS, Workload
from tonnage.planner.quality.measured import audit_of, known_quality
from tonnage.planner.search.budget import Budget
from tonnage.planner.search.candidate import (
    Candidate,
    Evaluator,
    Predict,
    Speed,
    pareto_front,
    request_seconds,
)
from tonnage.planner.search.constraints import (
    FEW_STEP_ROWS,
    MIN_STEP_ROWS,
    USUAL_STEP_ROWS,
    Constraints,
    choose_workload,
)

if TYPE_CHECKING:
    from tonnage.planner.search.alternatives import Alternative
    from tonnage.planner.search.relaxations import Relaxation

SHORTEST_CONTEXT_TOKENS = 512  # below, a chat forgets its own question; a shorter one is stated
GOOD_KLD = QUALITY_BOUNDS["high"]
SPEED_TOLERANCE = 0.02  # threads that bring less than this are left to others
MAX_PAGES_KLD = 0.005  # nats; int8 pages that cost more are taken only where f16 does not fit


@record
class Question:
    """What is asked for one model on `machine`, as `layout` lays it out.

    What `constraints` state is fixed, what they leave open is chosen. predict: the forecast of a
    plan, or None. audits: of the same weights; they are part of the choice where the constraints
    say so, and else only shown. resident_bytes, beside_bytes: what the process holds already, see
    Workload.
    """

    spec: ModelSpec
    machine: Machine
    layout: Layout
    constraints: Constraints
    predict: Predict
    audits: Sequence[AuditResult] = ()
    resident_bytes: int = 0
    beside_bytes: int = 0


@record
class PlanChoice:
    """What was chosen within `constraints`; when nothing fits, what takes the fewest bytes of all.

    usual_context_tokens, usual_kv_format: what is reserved where it fits. quality: what was
    measured of it, if that was; its choice among other weights went by estimates. forecast: None
    where this machine was not measured. rejected: plans beside an accepted one, and why not.
    relaxations: what would make a refused one fit.
    """

    constraints: Constraints
    workload: Workload
    plan: Plan
    forecast: Speed | None
    quality: PlanQuality
    usual_context_tokens: int
    usual_kv_format: KvFormat
    accepted: bool
    rejected: "tuple[Alternative, ...]" = ()
    relaxations: "tuple[Relaxation, ...]" = ()


def require_fit(choice: PlanChoice, budget: Budget) -> None:
    """Raise BudgetError when nothing fits.

    Its sentence names every item, the largest of them, the shortfall and the relaxations.
    """
    if choice.accepted:
        return
    from tonnage.planner.search.relaxations import binding_item, way_out

    plan = choice.plan
    lines = ", ".join(f"{item.name} {format_bytes(item.planned_bytes)}" for item in plan.items)
    raise BudgetError(
        f"The process needs {format_bytes(plan.total_bytes)} ({lines}) and "
        f"{format_bytes(budget.num_bytes)} {budget.origin}, "
        f"{format_bytes(plan.total_bytes - budget.num_bytes)} short, {binding_item(plan).name} "
        f"being the largest item; {way_out(choice.relaxations)}."
    )


def choose(question: Question, budget: Budget, *, compare: bool = True) -> PlanChoice:
    """Return the plan on the Pareto front of bytes, predicted speed and quality that is preferred.

    compare: whether to look at alternatives. Raises RequestError for a constraint that model and
    kernels do not take.
    """
    search = _search(question, budget.num_bytes)
    found = search.best()
    if found is not None and question.constraints.share_pages:
        from tonnage.planner.search.page_pool import widened

        found = widened(search.evaluator, found, budget.num_bytes)
    chosen = search.smallest if found is None else found
    choice = _choice(search, chosen, accepted=found is not None)
    # Both only where they are asked for: a run carries neither.
    if found is None:
        from tonnage.planner.search.relaxations import relaxations

        ways = relaxations(search.evaluator, chosen, question.constraints, budget.num_bytes)
        return replace(choice, relaxations=ways)
    if not compare:
        return choice
    from tonnage.planner.search.alternatives import Bounds, alternatives_of

    bounds = Bounds(budget.num_bytes, search.max_kld)
    beside = alternatives_of(search.evaluator, found, question.constraints, bounds)
    return replace(choice, rejected=beside)


def _choice(search: "_Search", chosen: Candidate, *, accepted: bool) -> PlanChoice:
    question = search.question
    measured = audit_of(question.spec, chosen.workload, question.audits)
    return PlanChoice(
        question.constraints,
        chosen.workload,
        search.evaluator.plan(chosen.workload),
        chosen.forecast,
        known_quality(chosen.quality, measured),
        search.asked.context_tokens,
        search.asked.kv_format,
        accepted,
    )


def smallest_plan(question: Question) -> Plan:
    """Return the plan of fewest bytes within the bound. Raises RequestError as `choose` does."""
    search = _search(question, 0)
    return search.evaluator.plan(search.smallest.workload)


def usual_workload(question: Question) -> tuple[Workload, tuple[int, ...]]:
    """Return what is chosen where it fits, and the rows per step that cost no more than time.

    The rows come most first. Raises RequestError as `choose` does.
    """
    search = _search(question, 0)
    return search.asked, search.row_tiers()[0]


def _search(question: Question, budget_bytes: int) -> "_Search":
    """Return the search for what is open."""
    constraints = question.constraints
    asked = choose_workload(question.spec, question.machine, constraints, question.resident_bytes)
    asked = replace(asked, beside_bytes=question.beside_bytes)
    audits = question.audits if constraints.use_audits else ()
    evaluator = Evaluator(question.spec, question.layout, question.predict, audits, asked.formats)
    # What the user stated is not held against the bound.
    max_kld = max(constraints.max_kld, evaluator.quality(asked).mean_kld)
    kv_formats = _kv_formats(evaluator, constraints, asked, max_kld)
    asked = replace(asked, kv_format=kv_formats[0])
    asked = replace(asked, threads=_threads(evaluator, question, asked))
    usual_kld = evaluator.quality(asked).mean_kld
    good_kld = min(max_kld, max(GOOD_KLD, usual_kld))
    return _Search(question, evaluator, asked, kv_formats, budget_bytes, max_kld, good_kld)


def thread_counts(machine: Machine) -> tuple[int, ...]:
    """Return the numbers of threads to compare: all up to eight, then by an eighth."""
    most = machine.default_threads
    return tuple(sorted({*range(1, min(most, 8) + 1), *range(8, most, max(1, most // 8)), most}))


def _kv_formats(
    evaluator: Evaluator, constraints: Constraints, asked: Workload, max_kld: float
) -> tuple[KvFormat, ...]:
    """Return the formats of pages that are open, the usual one first.

    That is the smallest that alone costs at most MAX_PAGES_KLD, keeps all together within the
    bound, and has fewer bytes planned (short contexts take the same huge pages in any).
    """
    if constraints.kv_format is not None:
        return (asked.kv_format,)
    exact, *lossy = KV_FORMATS
    cheap = [kv for kv in lossy if _costs_little(evaluator, asked, kv, max_kld)]
    usual = cheap[-1] if cheap else exact
    return (usual, *(kv for kv in KV_FORMATS if kv != usual))


def _costs_little(
    evaluator: Evaluator, asked: Workload, kv_format: KvFormat, max_kld: float
) -> bool:
    alone = evaluator.quality(replace(asked, formats=(), kv_format=kv_format))
    lossy = replace(asked, kv_format=kv_format)
    if alone.mean_kld > MAX_PAGES_KLD or evaluator.quality(lossy).mean_kld > max_kld:
        return False
    page_bytes = partial(evaluator.layout.page_bytes, evaluator.spec)
    return page_bytes(lossy) < page_bytes(asked)


def _threads(evaluator: Evaluator, question: Question, asked: Workload) -> int:
    """Return the fewest threads within 2 % of the best forecast.

    Without one: those of the cores next to one memory node, since the arena is not spread.
    """
    machine = question.machine
    if question.constraints.threads is not None:
        return asked.threads
    plan = evaluator.plan(asked)
    seconds = {}
    for count in thread_counts(machine):
        forecast = evaluator.predict(replace(plan, threads=count))
        if forecast is None:
            return min(asked.threads, machine.node_cores)
        seconds[count] = request_seconds(forecast)
    limit = min(seconds.values()) / (1 - SPEED_TOLERANCE)
    return min(count for count, taken in seconds.items() if taken <= limit)


@dataclass(frozen=True)
class _Search:
    """Goes through what is open, the preferred first.

    max_kld: the bound. good_kld: what a longer context may cost that nobody asked for.
    """

    question: Question
    evaluator: Evaluator
    asked: Workload
    kv_formats: tuple[KvFormat, ...]
    budget_bytes: int
    max_kld: float
    good_kld: float

    def best(self) -> Candidate | None:
        """Return the preferred candidate that fits, or None.

        Which of two candidates is preferred does not depend on the budget, and what fits in some
        bytes fits in more: so a larger budget never gives one that is less preferred.
        """
        *longer, shortest = self._contexts()
        if longer and (found := self._best_at(longer[0], self.good_kld)) is not None:
            return found
        short = self._best_at(shortest, self.max_kld)
        if short is None:
            return self._with_few_rows()
        lossy = short.quality.mean_kld > self.good_kld
        enough = short.quality.mean_kld if lossy else self.good_kld
        found_at = (self._best_at(context, enough) for context in longer[0 if lossy else 1 :])
        return next((found for found in found_at if found is not None), short)

    @cached_property
    def smallest(self) -> Candidate:
        """The candidate of fewest bytes within the bound."""
        usual, few = self.row_tiers()[0], self.row_tiers()[-1]
        workload = replace(self.asked, context_tokens=self._contexts()[-1], max_rows=usual[-1])
        kv_formats = self._kv_formats(workload.context_tokens)
        candidates = [self.evaluator.candidate(workload, kv_format=kv) for kv in kv_formats]
        allowed = [one for one in candidates if one.quality.mean_kld <= self.max_kld]
        allowed = allowed or candidates[:1]
        if self.question.constraints.weights_open:
            allowed = [self._least_weights(one) for one in allowed]
        least = min(allowed, key=lambda one: one.total_bytes)
        return self.evaluator.candidate(least.workload, max_rows=few[-1])

    def _best_at(self, context: int, max_kld: float) -> Candidate | None:
        """Return the preferred candidate of one context that fits within `max_kld`, or None."""
        found = pareto_front(self._fitting(context, max_kld))
        return min(found, key=_preference, default=None)

    def _fitting(self, context: int, max_kld: float) -> Iterator[Candidate]:
        """Yield what fits within `max_kld`; nothing else is tried once usual pages do."""
        *rows, fewest = self.row_tiers()[0]
        workload = replace(self.asked, context_tokens=context, max_rows=fewest)
        for kv_format in self._kv_formats(context):
            least = self.evaluator.candidate(workload, kv_format=kv_format)
            if self._fits(least) and least.quality.mean_kld <= max_kld:
                more = (self.evaluator.candidate(least.workload, max_rows=n) for n in rows)
                yield from (one for one in more if self._fits(one))
                yield least
                if kv_format == self.kv_formats[0]:
                    return
            if self.question.constraints.weights_open:
                filled = self.evaluator.fill(least.workload, self.budget_bytes, max_kld)
                if filled is not None:
                    yield filled

    def _least_weights(self, candidate: Candidate) -> Candidate:
        """Return `candidate` with the fewest bytes of weights within the bound, by bisection.

        More bytes of weights never lose more.
        """
        evaluator, workload = self.evaluator, candidate.workload
        unit = evaluator.layout.weights_unit
        low, high = 0, candidate.weight_bytes // unit
        while high - low > 1:
            middle = (low + high) // 2
            formats = evaluator.allocator.formats(middle * unit)
            tried = None if formats is None else replace(workload, formats=formats)
            if tried is not None and evaluator.quality(tried).mean_kld <= self.max_kld:
                workload, high = tried, middle
            else:
                low = middle
        return evaluator.candidate(workload)

    def _with_few_rows(self) -> Candidate | None:
        """Return the smallest candidate with the most rows per step that fit, or None.

        More weights would fit beside fewer rows, but then one of the usual rows, which takes a
        little more, would lose more.
        """
        for rows in (n for tier in self.row_tiers()[1:] for n in tier):
            found = self.evaluator.candidate(self.smallest.workload, max_rows=rows)
            if self._fits(found):
                return found
        return None

    def _fits(self, candidate: Candidate) -> bool:
        return candidate.total_bytes <= self.budget_bytes

    def _kv_formats(self, context: int) -> tuple[KvFormat, ...]:
        """Return the formats of pages to try; exact ones are no reason for a shorter context."""
        if context == self._contexts()[0]:
            return self.kv_formats
        usual, rank = self.kv_formats[0], KV_FORMATS.index
        return tuple(kv for kv in self.kv_formats if rank(kv) >= rank(usual))

    def _contexts(self) -> list[int]:
        contexts = [self.asked.context_tokens]
        while (
            self.question.constraints.context is None
            and contexts[-1] >= 2 * SHORTEST_CONTEXT_TOKENS
        ):
            contexts.append(contexts[-1] // 2)
        return contexts

    def row_tiers(self) -> list[tuple[int, ...]]:
        """Return rows per step, tier after tier; a later one only where the ones before fail."""
        asked = self.asked.max_rows
        if self.question.constraints.max_batch_tokens is not None or asked < MAX_STEP_ROWS:
            return [(asked,)]
        least = max(MIN_STEP_ROWS, self.asked.max_logit_rows, self.asked.concurrency)
        tiers = [tuple(n for n in tier if n >= least) for tier in (USUAL_STEP_ROWS, FEW_STEP_ROWS)]
        return [tier for tier in tiers if tier] or [(asked,)]


def _preference(candidate: Candidate) -> tuple[float, bool, int, int]:
    """Order candidates of one context: least loss, pages as they are, most rows, fewest bytes."""
    workload = candidate.workload
    lossy_kv = workload.kv_format != KV_FORMATS[0]
    return (candidate.quality.mean_kld, lossy_kv, -workload.max_rows, candidate.total_bytes)
