"""Several models in one process under one budget: what each takes, before any of them is loaded.

The process itself (interpreter, libraries, server) counts once. Every model gets one plan for good,
so that its context and its weights do not depend on which others are in memory: a pinned one beside
the other pinned ones and room for the smallest plan of any other model, one that is not pinned
beside the pinned ones alone.
"""

import gc
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from tonnage.core.errors import BudgetError, RequestError
from tonnage.core.ledger import Entry, Ledger, Measure, ProcessLedger
from tonnage.core.machine import Machine
from tonnage.core.nearest import did_you_mean
from tonnage.core.plan import OTHER_ENGINES, SHARED_ITEMS, Plan
from tonnage.core.units import format_bytes
from tonnage.engine import THIS_PROCESS, Engine
from tonnage.expectation import measured_rates, predictor
from tonnage.headers import read_spec
from tonnage.machine.host import read_machine
from tonnage.machine.memory_use import Start, file_and_shared_bytes, peak_rss_bytes, rss_bytes
from tonnage.memory.release import return_free_memory
from tonnage.models.source import ModelSource
from tonnage.opening import OpenOptions
from tonnage.planner.budget import Budget, choose_budget
from tonnage.planner.choose import Choice, choose, require_fit, smallest_plan
from tonnage.planner.option import Predict
from tonnage.quality.cache import known_audits

_INTERPRETER = "interpreter and libraries"


@dataclass(frozen=True, slots=True)
class Offer:
    """A model that can be loaded.

    resident_bytes, loading_bytes: what it takes of its own once it is loaded, and while it is.
    memory_bytes: of the whole process, as its plan sees it. options: all that its plan chose.
    """

    name: str
    source: ModelSource
    pinned: bool
    context_tokens: int
    resident_bytes: int
    loading_bytes: int
    memory_bytes: int
    start: Start
    options: OpenOptions

    def open(self, on_load: Callable[[int, int], None] | None = None) -> Engine:
        """Load the model by the plan that was offered.

        Raises what `Engine.load` does, BudgetError when its file has grown since.
        """
        return Engine.load(
            self.source, self.memory_bytes, self.options, self.start, on_load=on_load
        )


@dataclass(frozen=True, slots=True)
class Roster:
    """All models of a process. process_bytes: of it without models, server_bytes of that."""

    offers: tuple[Offer, ...]
    budget_bytes: int
    process_bytes: int
    server_bytes: int
    start: Start

    @property
    def capacity_bytes(self) -> int:
        """What all models in memory may take together."""
        return self.budget_bytes - self.process_bytes

    def ledger(
        self, engines: Mapping[str, Engine], placed: Mapping[str, int], server_now_bytes: int
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
        alone = len(self.offers) == 1
        for name, engine in engines.items():
            own = (entry for entry in engine.own_entries() if alone or entry.kind != "load")
            entries += [replace(entry, model=name) for entry in own]
        by_name = {offer.name: offer for offer in self.offers}
        for name, num_bytes in placed.items():
            entries.append(_entry(name, "loading", by_name[name].loading_bytes, num_bytes, "owner"))
        return Ledger(tuple(entries), self.budget_bytes, rss_bytes(), peak_rss_bytes())


def release() -> None:
    """Give the memory of models that were closed back to the system, whatever still hints at it."""
    gc.collect()
    return_free_memory()


def _entry(model: str, name: str, planned: int, now: int, how: Measure) -> Entry:
    return Entry(name, "load" if model else "host", planned, now, now, how, model)


@dataclass(frozen=True, slots=True)
class _Planned:
    """A plan taken apart: what the process takes, and the model at rest and while it loads."""

    process_bytes: int
    resident_bytes: int
    loading_bytes: int


def make_roster(
    models: Mapping[str, ModelSource],
    memory: str | int | None,
    options: OpenOptions,
    *,
    pinned: Collection[str] = (),
    on_choice: Callable[[str, Choice], None] | None = None,
    process: ProcessLedger = THIS_PROCESS,
) -> Roster:
    """Plan all `models`, by name, within `memory` for the whole process (what it can get if None).

    options: of every model. pinned: names of those that stay in memory. on_choice is told what was
    chosen for each. process: where open engines are counted. Raises RequestError for an unknown
    name, BudgetError with the numbers when the smallest plans of the pinned models and of any one
    other do not fit together.
    """
    for name in pinned:
        if name not in models:
            raise RequestError(f"There is no model {name!r} to pin{did_you_mean(name, models)}")
    machine = read_machine()
    budget = choose_budget(machine, memory, rss_bytes())
    start = Start.of(process)
    planner = _Planner(machine, predictor(measured_rates(machine)), options, budget, start)
    smallest = planner.smallest(models, pinned) if len(models) > 1 else {}
    offers: dict[str, Offer] = {}
    process_bytes = 0
    for name in sorted(models, key=lambda name: name not in pinned):
        beside = _beside(name, smallest, offers, pinned)
        choice, part = planner.choose(models[name], beside)
        if on_choice is not None:
            on_choice(name, choice)
        process_bytes = max(process_bytes, part.process_bytes)
        offers[name] = _offer(
            name, models[name], choice, part, options,
            replace(start, beside_bytes=beside), pinned=name in pinned,
        )  # fmt: skip
    in_order = tuple(offers[name] for name in models)
    server_bytes = options.serving.server_bytes
    return Roster(in_order, budget.num_bytes, process_bytes, server_bytes, start)


def _beside(
    name: str,
    smallest: Mapping[str, _Planned],
    offers: Mapping[str, Offer],
    pinned: Collection[str],
) -> int:
    """Return what stays free for others while `name` is planned; `offers` are planned already."""
    kept = sum(offer.resident_bytes for offer in offers.values() if offer.pinned)
    if name not in pinned:
        return kept
    later = {other: part for other, part in smallest.items() if other not in {name, *offers}}
    firm = sum(part.loading_bytes for other, part in later.items() if other in pinned)
    loose = (part.loading_bytes for other, part in later.items() if other not in pinned)
    return kept + firm + max(loose, default=0)


@dataclass(frozen=True, slots=True)
class _Planner:
    machine: Machine
    predict: Predict
    options: OpenOptions
    budget: Budget
    start: Start

    def choose(self, source: ModelSource, beside_bytes: int) -> tuple[Choice, _Planned]:
        spec = read_spec(source)
        choice = choose(
            spec, self.machine, self.options.wishes(spec), self.budget, self.predict,
            known_audits(source.path),
            resident_bytes=self.start.resident_bytes, beside_bytes=beside_bytes, compare=False,
        )  # fmt: skip
        require_fit(choice, self.budget)
        return choice, self._apart(choice.plan)

    def smallest(
        self, models: Mapping[str, ModelSource], pinned: Collection[str]
    ) -> dict[str, _Planned]:
        """Return the smallest plan of every model, if they fit. Raises BudgetError otherwise."""
        parts = {}
        for name, source in models.items():
            spec = read_spec(source)
            plan = smallest_plan(
                spec, self.machine, self.options.wishes(spec), self.predict,
                known_audits(source.path),
                resident_bytes=self.start.resident_bytes,
            )  # fmt: skip
            parts[name] = self._apart(plan)
        _require_room(parts, pinned, self.budget)
        return parts

    def _apart(self, plan: Plan) -> _Planned:
        items = {item.name: item.planned_bytes for item in plan.items}
        shared = sum(items.get(name, 0) for name in SHARED_ITEMS if name != OTHER_ENGINES)
        return _Planned(shared, plan.own_bytes, plan.own_bytes + plan.load_bytes)


def _require_room(parts: Mapping[str, _Planned], pinned: Collection[str], budget: Budget) -> None:
    """Raise BudgetError unless the pinned models and any one other fit in their smallest plans."""
    process = max(part.process_bytes for part in parts.values())
    kept = {name: part.loading_bytes for name, part in parts.items() if name in pinned}
    loose = {name: part.loading_bytes for name, part in parts.items() if name not in pinned}
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
        f"{format_bytes(most - budget.num_bytes)} short; {way}allow --memory {_mebibytes(most)}."
    )


def _mebibytes(num_bytes: int) -> str:
    return f"{-(-num_bytes >> 20)}MiB"


def _offer(
    name: str,
    source: ModelSource,
    choice: Choice,
    part: _Planned,
    options: OpenOptions,
    start: Start,
    *,
    pinned: bool,
) -> Offer:
    chosen = choice.workload
    stated = replace(
        options,
        threads=chosen.threads,
        context=chosen.context_tokens,
        precision=None,
        formats=dict(chosen.formats),
        kv_format=chosen.kv_format,
        step_rows=chosen.max_rows,
    )
    return Offer(
        name, source, pinned, chosen.context_tokens, part.resident_bytes, part.loading_bytes,
        choice.plan.total_bytes, start, stated,
    )  # fmt: skip
