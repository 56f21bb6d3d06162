"""What a loaded plan should do on this machine, and the watch over what it does."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tonnage.core.errors import CacheError
from tonnage.core.machine import Machine
from tonnage.core.plan import Plan
from tonnage.core.slowdown import Slowdown, cold_load
from tonnage.machine.counters import CounterFiles
from tonnage.machine.rates_file import load_rates
from tonnage.planner.search.candidate import Predict
from tonnage.store.cache import models_folder

if TYPE_CHECKING:
    from tonnage.core.rates import Rates
    from tonnage.planner.cost.forecast import Forecast

OnSlowdown = Callable[[Slowdown], None]


class Expectation:
    """The forecast of one plan, and why it was not met.

    slowdowns: every cause that was named so far. Without rates there is neither forecast nor watch.
    """

    def __init__(self, plan: Plan, machine: Machine, rates: "Rates | None") -> None:
        """Begin before `plan` is loaded; rates: what `machine` was measured to do, or None."""
        self.slowdowns: list[Slowdown] = []
        self._plan = plan
        self._counters = CounterFiles()
        self._read_before = self._counters.read().read_bytes
        self._speed, self._watch = None, None
        if rates is not None:
            from tonnage.engine.plan_speed import PlanSpeed

            self._speed = PlanSpeed(plan, rates)
            self._watch = self._speed.watch(machine, self._counters.read)

    def loaded(self) -> None:
        """Note whether the weights, which are loaded now, had to come from a disk."""
        read_bytes = self._counters.read().read_bytes - self._read_before
        cold = cold_load(read_bytes, self._plan.weight_bytes)
        self.slowdowns += [cold] if cold else []

    def forecast(self, prompt_tokens: int, position: int) -> "Forecast | None":
        """Return what to expect of a prompt, and of tokens behind `position` others; or None."""
        return None if self._speed is None else self._speed.forecast(prompt_tokens, position)

    def decode_tokens_per_s(self, rows: int, position: int) -> float | None:
        """Return what to expect of `rows` sequences together, each behind `position` tokens."""
        return None if self._speed is None else self._speed.decode_tokens_per_s(rows, position)

    def bandwidth_share(self, tokens_per_s: float, position: int, rows: float = 1) -> float | None:
        """Return the bytes that tokens behind `position` others touch over what the memory gives.

        rows: tokens of one step, which read the weights once together. Above 1 where caches held a
        part of them; None where this machine was not measured.
        """
        if self._speed is None:
            return None
        return self._speed.bandwidth_share(tokens_per_s, position, rows)

    def watcher(self, on_slowdown: OnSlowdown | None) -> Callable[[int, float], None] | None:
        """Return what takes the position and the seconds of every token of a completion, or None.

        on_slowdown receives each cause when it is named first.
        """
        watch = self._watch
        if watch is None:
            return None
        watch.begin()

        def step(position: int, seconds: float) -> None:
            for slowdown in watch.step(position, seconds):
                self.slowdowns.append(slowdown)
                if on_slowdown is not None:
                    on_slowdown(slowdown)

        return step


def measured_rates(machine: Machine) -> "Rates | None":
    """Return what `tonnage doctor --measure` found on this machine; None if it never ran here."""
    try:
        return load_rates(rates_folder(), machine)
    except CacheError:
        return None


def rates_folder() -> Path:
    """Return the folder of measured rates, which may not exist. Raises CacheError."""
    return models_folder(os.environ).with_name("rates")


def predictor(rates: "Rates | None") -> Predict:
    """Return what forecasts a plan from `rates`."""
    if rates is None:
        return lambda plan: None
    from tonnage.engine.plan_speed import forecast_of

    return lambda plan: forecast_of(plan, rates)
