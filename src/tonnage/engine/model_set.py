"""Several models in one process under one budget: what each takes, before any of them is loaded.

The process itself (interpreter, libraries, server) counts once. Every model gets one plan for good,
so that its context and its weights do not depend on which others are in memory;
`tonnage.planner.models.placement` makes them.
"""

import gc
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from tonnage.core.errors import RequestError
from tonnage.core.ledger import Entry, Ledger, Measure, ProcessLedger
from tonnage.core.nearest import did_you_mean
from tonnage.core.plan import SHARED_ITEMS, Item
from tonnage.core.quality import PlanQuality
from tonnage.engine.build import ServingOptions
from tonnage.engine.engine import THIS_PROCESS, Engine
from tonnage.engine.expectation import measured_rates, predictor
from tonnage.engine.headers import read_spec
from tonnage.machine.host import read_machine
from tonnage.machine.memory_use import Start, file_and_shared_bytes, peak_rss_bytes, rss_bytes
from tonnage.machine.release import return_free_memory
from tonnage.planner.models.placement import ModelInput, ModelSetPlan, plan_model_set
from tonnage.planner.search.budget import choose_budget
from tonnage.planner.search.choose import Choice
from tonnage.planner.search.constraints import Constraints
from tonnage.store.audits import known_audits
from tonnage.store.source import ModelSource

_INTERPRETER = "interpreter and libraries"


class HasEntries(Protocol):
    """An engine as the ledger sees it."""

    def own_entries(self) -> tuple[Entry, ...]:
        """Return the items of the ledger that are this engine's alone."""


@dataclass(frozen=True, slots=True)
class PlacedModel:
    """A model that can be loaded.

    context_tokens, pages_tokens: of one answer, and of all at once. resident_bytes, loading_bytes:
    what it takes of its own once it is loaded, and while it is, which is the sum of items.
    memory_bytes: of the whole process, as its plan sees it. co_resident: beside all others of which
    that is true; else it is loaded in place of in_place_of of them. constraints: all that its plan
    chose. serving: how it is served.
    """

    name: str
    source: ModelSource
    pinned: bool
    context_tokens: int
    pages_tokens: int
    resident_bytes: int
    loading_bytes: int
    memory_bytes: int
    items: tuple[Item, ...]
    quality: PlanQuality
    co_resident: bool
    in_place_of: int
    start: Start
    constraints: Constraints
    serving: ServingOptions

    def open(self, on_load: Callable[[int, int], None] | None = None) -> Engine:
        """Load the model by the plan that was offered.

        Raises what `Engine.load` does, BudgetError when its file has grown since.
        """
        return Engine.load(
            self.source,
            self.memory_bytes,
            self.constraints,
            self.serving,
            self.start,
            on_load=on_load,
        )


@dataclass(frozen=True, slots=True)
class ModelSet:
    """All models of a process. process_bytes: of it without models, server_bytes of that.

    all_resident_bytes: the least of the whole process with which all models are side by side.
    """

    models: tuple[PlacedModel, ...]
    budget_bytes: int
    process_bytes: int
    server_bytes: int
    all_resident_bytes: int
    start: Start

    @property
    def capacity_bytes(self) -> int:
        """What all models in memory may take together."""
        return self.budget_bytes - self.process_bytes

    @property
    def most_bytes(self) -> int:
        """What the process may come to, whichever models are asked for."""
        if not all(model.co_resident for model in self.models):
            return self.budget_bytes  # a swapped model meets whichever bytes allow
        held = most = 0
        # Pinned ones are loaded first, and then stay.
        for model in (one for one in self.models if one.pinned):
            most = max(most, held + model.loading_bytes)
            held += model.resident_bytes
        loose = [model for model in self.models if not model.pinned]
        held += sum(model.resident_bytes for model in loose)
        buffers = max((one.loading_bytes - one.resident_bytes for one in loose), default=0)
        return self.process_bytes + max(most, held + buffers)

    def ledger(
        self, engines: Mapping[str, HasEntries], placed: Mapping[str, int], server_now_bytes: int
    ) -> Ledger:
        """Return every item of the process, planned and now.

        engines: open ones by name. placed: weights in place of those that are being loaded.
        server_now_bytes: what the server's imports have grown the process by.
        """
        now = self.start.anonymous_bytes + file_and_shared_bytes()
        rest = self.process_bytes - self.server_bytes
        entries = [_entry("", _INTERPRETER, rest, now, "pages")]
        if self.server_bytes:
            entries.append(_entry("", "server", self.server_bytes, server_now_bytes, "growth"))
        # One of several loads at a time, so their buffers are never there together.
        alone = len(self.models) == 1
        for name, engine in engines.items():
            own = (entry for entry in engine.own_entries() if alone or entry.kind != "load")
            entries += [replace(entry, model=name) for entry in own]
        by_name = {model.name: model for model in self.models}
        for name, num_bytes in placed.items():
            entries.append(_entry(name, "loading", by_name[name].loading_bytes, num_bytes, "owner"))
        return Ledger(tuple(entries), self.budget_bytes, rss_bytes(), peak_rss_bytes())


def release() -> None:
    """Give the memory of models that were closed back to the system, whatever still hints at it."""
    gc.collect()
    return_free_memory()


def _entry(model: str, name: str, planned: int, now: int, how: Measure) -> Entry:
    return Entry(name, "load" if model else "host", planned, now, now, how, model)


def make_model_set(
    models: Mapping[str, ModelSource],
    memory: str | int | None,
    constraints: Constraints,
    serving: ServingOptions,
    *,
    pinned: Collection[str] = (),
    on_choice: Callable[[str, Choice], None] | None = None,
    process: ProcessLedger = THIS_PROCESS,
) -> ModelSet:
    """Plan all `models`, by name, within `memory` for the whole process (what it can get if None).

    constraints, serving: of every model. pinned: names of those that stay in memory. on_choice is
    told what was chosen for each. process: where open engines are counted. Raises RequestError for
    an unknown name, BudgetError with the numbers when the smallest plans of the pinned models and
    of any one other do not fit together.
    """
    for name in pinned:
        if name not in models:
            raise RequestError(f"There is no model {name!r} to pin{did_you_mean(name, models)}")
    machine = read_machine()
    budget = choose_budget(machine, memory, rss_bytes())
    start = Start.of(process)
    inputs = {
        name: _input(source, constraints, pinned=name in pinned) for name, source in models.items()
    }
    planned = plan_model_set(
        inputs, machine, budget, predictor(measured_rates(machine)),
        resident_bytes=start.resident_bytes,
    )  # fmt: skip
    if on_choice is not None:
        for name, placement in planned.placements.items():
            on_choice(name, placement.choice)
    placed = (
        _placed_model(name, source, planned, constraints, serving, start, pinned=name in pinned)
        for name, source in models.items()
    )
    return ModelSet(
        tuple(placed), budget.num_bytes, planned.process_bytes, serving.server_bytes,
        planned.all_resident_bytes, start,
    )  # fmt: skip


def _input(source: ModelSource, constraints: Constraints, *, pinned: bool) -> ModelInput:
    spec = read_spec(source)
    return ModelInput(spec, constraints, known_audits(source.path), pinned)


def _placed_model(
    name: str,
    source: ModelSource,
    planned: ModelSetPlan,
    constraints: Constraints,
    serving: ServingOptions,
    start: Start,
    *,
    pinned: bool,
) -> PlacedModel:
    placement = planned.placements[name]
    chosen, plan, need = placement.choice.workload, placement.choice.plan, placement.need
    stated = replace(
        constraints,
        threads=chosen.threads,
        context=chosen.context_tokens,
        precision=None,
        formats=chosen.formats,
        kv_format=chosen.kv_format,
        max_batch_tokens=chosen.max_rows,
    )
    return PlacedModel(
        name=name,
        source=source,
        pinned=pinned,
        context_tokens=chosen.context_tokens,
        pages_tokens=plan.kv.groups[0].num_pages * plan.kv.page_tokens,
        resident_bytes=need.resident_bytes,
        loading_bytes=need.loading_bytes,
        memory_bytes=placement.memory_bytes,
        items=tuple(item for item in plan.items if item.name not in SHARED_ITEMS),
        quality=placement.choice.quality,
        co_resident=placement.co_resident,
        in_place_of=placement.in_place_of,
        start=replace(start, beside_bytes=0),  # the budget is shared by plans, not by engines
        constraints=stated,
        serving=serving,
    )
