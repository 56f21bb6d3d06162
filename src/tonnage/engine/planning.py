"""What a model would take here, before anything is loaded."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Unpack

from tonnage.backends.cpu.layout.cpu_layout import CpuLayout
from tonnage.core.footprint import INTERPRETER_BYTES
from tonnage.core.model_spec import ModelSpec
from tonnage.core.options import current
from tonnage.core.quality import AuditResult
from tonnage.engine.expectation import measured_rates, predictor
from tonnage.engine.headers import read_spec
from tonnage.engine.opening import constraints_of
from tonnage.engine.options import EngineOptions, PlanOptions
from tonnage.machine.host import read_machine
from tonnage.machine.memory_use import rss_bytes
from tonnage.planner.search.budget import Budget, choose_budget
from tonnage.planner.search.candidate import Predict
from tonnage.planner.search.choose import PlanChoice, Question, choose
from tonnage.planner.search.constraints import Constraints
from tonnage.store.audits import cached_audits
from tonnage.store.catalog import open_catalogs
from tonnage.store.source import resolve

if TYPE_CHECKING:
    from tonnage.store.progress import Progress


def fresh_budget(memory: str | int | None) -> Budget:
    """Return what a fresh process of this machine may come to. Raises UnitError, BudgetError."""

    return choose_budget(read_machine(), memory, min(INTERPRETER_BYTES, rss_bytes()))


def choose_here(
    spec: ModelSpec,
    budget: Budget,
    options: PlanOptions,
    audits: Sequence[AuditResult],
    *,
    compare: bool = True,
) -> PlanChoice:
    """Return the choice for this machine; compare: with its alternatives. Raises RequestError."""
    predict = predictor(measured_rates(read_machine()))
    question = question_of(spec, constraints_of(options), predict, audits)
    return choose(question, budget, compare=compare)


def question_of(
    spec: ModelSpec, constraints: Constraints, predict: Predict, audits: Sequence[AuditResult] = ()
) -> Question:
    """Return what is asked for a fresh process of this machine, with the layout of its CPU."""
    return Question(spec, read_machine(), CpuLayout(), constraints, predict, audits)


def plan(
    model: "str | os.PathLike[str] | None" = None,
    memory: str | int | None = None,
    *,
    progress: "Progress | None" = None,
    **options: Unpack[EngineOptions],
) -> PlanChoice:
    """Return what a fresh process would choose for `model`, from its headers alone.

    Arguments as of `Engine.open`. The choice holds the plan with every item in bytes, and whether
    it fits: one that does not is returned too, with what would make it fit. Raises a TonnageError
    subclass for a model that is not found or not understood, and options out of range.
    """
    stated: EngineOptions = current(EngineOptions, options)
    budget = fresh_budget(memory)
    catalogs = open_catalogs(stated.get("catalog"), os.environ)
    source = resolve(
        model, catalogs=catalogs, offline=stated.get("offline", False), progress=progress
    )
    return choose_here(read_spec(source), budget, stated, cached_audits(source.path))
