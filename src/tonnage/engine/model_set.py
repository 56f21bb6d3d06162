"""Several models in one process under one budget: what each takes, before any of them is loaded.

The process itself (interpreter, libraries, server) counts once. Every model gets one plan for good,
so that its context and its weights do not depend on which others are in memory;
`tonnage.planner.models.placement` makes them.
"""

import gc
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Protocol

from tonnage.core.errors import RequestError
from tonnage.core.ledger import Entry, Ledger, Measure, ProcessLedger
from tonnage.core.nearest import did_you_mean
from tonnage.core.plan import SHARED_ITEMS, Item, Plan
from tonnage.core.record import record
from tonnage.engine.assembly import read_host
from tonnage.engine.build import ServingOptions
from tonnage.engine.engine import THIS_PROCESS, Engine
from tonnage.engine.expectation import predictor
from tonnage.engine.headers import read_spec
from tonnage.engine.plan_files import choice_in
from tonnage.machine.allocator import return_free_memory
from tonnage.machine.memory_use import Start, file_and_shared_bytes, peak_rss_bytes, rss_bytes
from tonnage.planner.models.placement import (
    ModelInput,
    ModelSetPlan,
    Placement,
    only_model,
    plan_model_set,
)
from tonnage.planner.plan_file import PlanFile
from tonnage.planner.search.budget import Budget, choose_budget, require_within
from tonnage.planner.search.choose import PlanChoice
from tonnage.planner.search.constraints import Constraints
from tonnage.store.audits import known_audits
from tonnage.store.source import ModelSource

_INTERPRETER = "interpreter and libraries"


class HasEntries(Protocol):
    """An engine as the ledger sees it."""

    def own_entries(self) -> tuple[Entry, ...]:
        """Return the items of the ledger that are this engine's alone."""


@record
class PlacedModel:
    """A model that can be loaded: by which plan, and which others may be in memory then.

    start: how the process stood before any model. serving: how it is served.
    """

    name: str
    source: ModelSource
    pinned: bool
    placement: Placement
    start: Start
    serving: ServingOptions

    @property
    def plan(self) -> Plan:
        """The plan that is loaded, whatever else is in memory."""
        return self.placement.choice.plan

    @property
    def context_tokens(self) -> int:
        """Of one completion."""
        return self.plan.context_tokens

    @property
    def pages_tokens(self) -> int:
        """Of all completions at once."""
        return self.plan.kv.groups[0].num_pages * self.plan.kv.page_tokens

    @property
    def resident_bytes(self) -> int:
        """What it takes of its own once it is loaded."""
        return self.placement.need.resident_bytes

    @property
    def loading_bytes(self) -> int:
        """What it takes of its own while it is loaded, the sum of `items`."""
        return self.placement.need.loading_bytes

    @property
    def memory_bytes(self) -> int:
        """What the process takes while this model alone is loaded."""
        return self.placement.memory_bytes

    @property
    def items(self) -> tuple[Item, ...]:
        """The items of its plan that are its own."""
        return tuple(item for item in self.plan.items if item.name not in SHARED_ITEMS)

    @property
    def co_resident(self) -> bool:
        """Whether it is in memory beside all others of which that is true."""
        return self.placement.co_resident

    @property
    def in_place_of(self) -> int:
        """How many of those have to go for it where it is not."""
        return self.placement.in_place_of

    def open(self, on_load: Callable[[int, int], None] | None = None) -> Engine:
        """Load the model by its plan.

        Raises what `Engine.load` does, BudgetError when its file has grown since.
        """
        return Engine.load(
            self.placement.choice,
            self.source,
            self.memory_bytes,
            self.serving,
            self.start,
            on_load=on_load,
        )


@record
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
    on_choice: Callable[[str, PlanChoice], None] | None = None,
    process: ProcessLedger = THIS_PROCESS,
    start: Start | None = None,
) -> ModelSet:
    """Plan all `models`, by name, within `memory` for the whole process (what it can get if None).

    constraints, serving: of every model. pinned: names of those that stay in memory. on_choice
    receives what was chosen for each. process: where open engines are counted. start: how it stood
    before, as it does now if None. Raises RequestError for an unknown name, BudgetError with the
    numbers when the smallest plans of the pinned models and of any one other do not fit together.
    """
    for name in pinned:
        if name not in models:
            raise RequestError(f"There is no model {name!r} to pin{did_you_mean(name, models)}")
    host = read_host()
    budget = choose_budget(host.machine, memory, rss_bytes())
    start = start or Start.of(process)
    inputs = {
        name: _input(source, constraints, pinned=name in pinned) for name, source in models.items()
    }
    planned = plan_model_set(
        inputs, host.machine, host.backend.layout, budget, predictor(host.rates),
        resident_bytes=start.resident_bytes,
    )  # fmt: skip
    return _model_set(models, planned, budget, serving, start, pinned, on_choice)


def _model_set(
    sources: Mapping[str, ModelSource],
    planned: ModelSetPlan,
    budget: Budget,
    serving: ServingOptions,
    start: Start,
    pinned: Collection[str] = (),
    on_choice: Callable[[str, PlanChoice], None] | None = None,
) -> ModelSet:
    if on_choice is not None:
        for name, placement in planned.placements.items():
            on_choice(name, placement.choice)
    # The budget is shared by plans, not by engines.
    alone = replace(start, beside_bytes=0)
    placed = (
        PlacedModel(name, source, name in pinned, planned.placements[name], alone, serving)
        for name, source in sources.items()
    )
    return ModelSet(
        tuple(placed), budget.num_bytes, planned.process_bytes, serving.server_bytes,
        planned.all_resident_bytes, start,
    )  # fmt: skip


def model_set_of(
    name: str,
    source: ModelSource,
    file: PlanFile,
    memory: str | int | None,
    serving: ServingOptions,
    *,
    on_choice: Callable[[str, PlanChoice], None] | None = None,
    process: ProcessLedger = THIS_PROCESS,
    start: Start | None = None,
) -> ModelSet:
    """Return the set of one model that is loaded by a plan file.

    memory: what the file states if None. Raises PlanFileError for a plan of another checkpoint,
    BudgetError when it does not fit beside what the server takes.
    """
    host = read_host()
    budget = choose_budget(host.machine, memory or file.budget_bytes, rss_bytes())
    start, spec = start or Start.of(process), read_spec(source)
    choice = choice_in(file, source, spec, host.machine, host.backend.layout, start, serving)
    require_within(choice.plan.total_bytes, budget)
    planned = only_model(name, choice)
    return _model_set({name: source}, planned, budget, serving, start, on_choice=on_choice)


def _input(source: ModelSource, constraints: Constraints, *, pinned: bool) -> ModelInput:
    spec = read_spec(source)
    return ModelInput(spec, constraints, known_audits(source.path), pinned)
