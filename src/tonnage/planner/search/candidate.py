"""One way to run a model, judged: its bytes, its predicted speed and its quality."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf
from typing import TYPE_CHECKING, Any, Protocol

from tonnage.core.layout import Layout
from tonnage.core.mix import Formats
from tonnage.core.model_spec import ModelSpec
from tonnage.core.plan import Plan
from tonnage.core.quality import AuditResult, PlanQuality
from tonnage.core.record import record
from tonnage.core.workload import Workload
from tonnage.planner.cost.request import COMPLETION_TOKENS, PROMPT_TOKENS
from tonnage.planner.quality.estimate import estimate
from tonnage.planner.quality.measured import audit_of, known_quality

if TYPE_CHECKING:
    from tonnage.planner.quality.allocator import Allocator

_ROW_ORDER_S = 1e-6


class Speed(Protocol):
    """What a forecast has; tokens per second of one sequence."""

    @property
    def decode_tokens_per_s(self) -> float:
        """Of a completion."""

    @property
    def prefill_tokens_per_s(self) -> float | None:
        """Of a prompt; None where it is not known."""

    @property
    def time_to_first_token_ns(self) -> int | None:
        """Of a prompt, from its first token on."""

    @property
    def bottleneck(self) -> str:
        """What limits decoding."""


Predict = Callable[[Plan], Speed | None]


@record
class Candidate:
    """A workload and what its plan comes to; forecast: None where nothing was measured.

    The plan itself is not kept: dozens of them would weigh megabytes of the process that is
    planned. weight_bytes: the item `weights`.
    """

    workload: Workload
    total_bytes: int
    weight_bytes: int
    forecast: Speed | None
    quality: PlanQuality

    @property
    def request_s(self) -> float:
        """Predicted seconds for 512 tokens of prompt and 128 of completion.

        What is not known is replaced by a number that orders candidates alone: more threads, then
        more rows per step are taken to be faster.
        """
        if self.forecast is None:
            return 1.0 / self.workload.threads + _ROW_ORDER_S / self.workload.max_rows
        seconds = request_seconds(self.forecast)
        unknown = self.forecast.prefill_tokens_per_s is None
        return seconds + (_ROW_ORDER_S / self.workload.max_rows if unknown else 0.0)

    def dominates(self, other: "Candidate") -> bool:
        """Whether it is no worse in bytes, speed and quality, and better in one of them."""
        mine = (self.total_bytes, self.request_s, self.quality.mean_kld)
        others = (other.total_bytes, other.request_s, other.quality.mean_kld)
        return mine != others and all(a <= b for a, b in zip(mine, others, strict=True))


def request_seconds(forecast: Speed) -> float:
    """Return the seconds that the request takes by which speeds are compared."""
    prefill = forecast.prefill_tokens_per_s
    prompt_s = 0.0 if prefill is None else PROMPT_TOKENS / prefill
    return prompt_s + COMPLETION_TOKENS / forecast.decode_tokens_per_s


def pareto_front(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Return those that none of the others dominates, in their order."""
    every = list(candidates)
    return [one for one in every if not any(other.dominates(one) for other in every)]


def _other_bytes(plan: Plan) -> int:
    """Return the bytes of all items but the weights."""
    return sum(item.planned_bytes for item in plan.items if item.kind != "weight")


@dataclass(frozen=True)
class Evaluator:
    """Makes candidates of one model, as `layout` lays it out.

    audits: of its weights. stated_formats: what the user stated about them.
    """

    spec: ModelSpec
    layout: Layout
    predict: Predict
    audits: Sequence[AuditResult] = ()
    stated_formats: Formats = ()

    @cached_property
    def allocator(self) -> "Allocator":
        """What finds the formats of weights that fit; only where the file does not."""
        from tonnage.planner.quality.allocator import Allocator

        return Allocator(self.spec, self.layout)

    @cached_property
    def _last(self) -> list[tuple[Workload, Plan]]:
        return []

    def plan(self, workload: Workload) -> Plan:
        """Return the plan of `workload`; what it has in common with the last one is shared."""
        for last, plan in self._last:
            if last == workload:
                return plan
        like = next((plan for last, plan in self._last if workload.has_steps_of(last)), None)
        plan = self.layout.plan(self.spec, workload, like)
        self._last[:] = [(workload, plan)]
        return plan

    def candidate(self, workload: Workload, **changes: Any) -> Candidate:
        """Return the candidate of `workload` with `changes`."""
        changed = replace(workload, **changes)
        plan = self.plan(changed)
        weights = plan.total_bytes - _other_bytes(plan)
        return Candidate(
            changed, plan.total_bytes, weights, self.predict(plan), self.quality(changed)
        )

    def fill(self, workload: Workload, budget_bytes: int, max_kld: float = inf) -> Candidate | None:
        """Return the candidate of the best weights that fit beside what else `workload` takes.

        They are the largest whole number of the layout's units that fits, so that more bytes never
        give worse weights. None: not even the smallest fit, or the best lose more than `max_kld`.
        """
        other_bytes = _other_bytes(self.plan(workload))
        unit = self.layout.weights_unit
        # Other formats take more while they are loaded, so that the first try may not fit.
        for count in range((budget_bytes - other_bytes) // unit, 0, -1):
            formats = self.allocator.formats(count * unit)
            if formats is None:
                return None
            filled = replace(workload, formats=formats)
            if self.quality(filled).mean_kld > max_kld:
                return None
            if self.plan(filled).total_bytes <= budget_bytes:
                return self.candidate(filled)
        return None

    def quality(self, workload: Workload) -> PlanQuality:
        """Return how far `workload` lies from the file as it stands."""
        if not workload.formats and workload.kv_format == "f16":
            return PlanQuality(0.0, "exact")
        # Mixes that are looked for are compared by estimates alone: what was measured of one would
        # draw the choice to it, or away from it, by what the estimator is off.
        if workload.formats == self.stated_formats:
            measured = audit_of(self.spec, workload, self.audits)
            if measured is not None:
                return known_quality(self._estimated(workload), measured)
        return self._estimated(workload)

    def _estimated(self, workload: Workload) -> PlanQuality:
        predicted = estimate(self.spec, workload.formats, workload.kv_format)
        return PlanQuality(predicted.mean_kld, "estimate", predicted.factor)
