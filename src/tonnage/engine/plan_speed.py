"""How fast a plan should run on a machine that was measured; others carry none of this."""

from collections.abc import Callable

from tonnage.core.machine import Machine
from tonnage.core.plan import Plan
from tonnage.core.rates import Rates
from tonnage.core.slowdown import Counters
from tonnage.machine.clock import clock_share
from tonnage.machine.watch import Watch
from tonnage.planner.cost.forecast import Forecast, forecast_work, step_s
from tonnage.planner.cost.work import work_of


class PlanSpeed:
    """Forecasts of one plan from the rates of this machine."""

    def __init__(self, plan: Plan, rates: Rates) -> None:
        """Add up what the steps of `plan` do."""
        self._plan = plan
        self._work = work_of(plan)
        self._rates = rates

    def forecast(self, prompt_tokens: int, position: int) -> Forecast:
        """Return what to expect of a prompt, and of tokens behind `position` others."""
        return forecast_work(
            self._work, self._rates, prompt_tokens=prompt_tokens, position=position
        )

    def decode_tokens_per_s(self, rows: int, position: int) -> float:
        """Return what to expect of `rows` sequences together, each behind `position` tokens."""
        return forecast_work(
            self._work, self._rates, rows=rows, position=position, prompt_tokens=1
        ).decode_tokens_per_s

    def bandwidth_share(self, tokens_per_s: float, position: int, rows: float) -> float:
        """Return the bytes touched over what the memory gives; see `Expectation`."""
        touched = self._work.read_bytes / rows + self._work.kv_bytes(position)
        return tokens_per_s * touched / self._rates.read_bytes_per_s(self._plan.threads)

    def watch(self, machine: Machine, counters: Callable[[], Counters]) -> Watch:
        """Return what compares the steps of completions with their forecast."""
        work, rates = self._work, self._rates
        draw_s = rates.logit_s * work.vocab_size
        return Watch(
            lambda position: step_s(work, rates, 1, position) + draw_s,
            counters,
            lambda: clock_share(rates),
            threads=self._plan.threads,
            cpus=min(len(machine.affinity), machine.num_cores),
        )


def forecast_of(plan: Plan, rates: Rates) -> Forecast:
    """Return the forecast of a plan that is only looked at."""
    return forecast_work(work_of(plan), rates)
