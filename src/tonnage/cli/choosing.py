"""What the planner chooses here for the options of a command, before anything is loaded."""

from argparse import Namespace
from collections.abc import Sequence

from tonnage.cli.opening import stated
from tonnage.core.footprint import INTERPRETER_BYTES
from tonnage.core.model_spec import ModelSpec
from tonnage.core.quality import AuditResult
from tonnage.engine.expectation import measured_rates, predictor
from tonnage.engine.opening import constraints_of
from tonnage.engine.options import PlanOptions
from tonnage.machine.host import read_machine
from tonnage.planner.search.budget import Budget, choose_budget
from tonnage.planner.search.choose import Choice, Question, choose


def own_budget(args: Namespace) -> Budget:
    """Return what a process of this machine may come to. Raises UnitError, BudgetError."""
    # What a fresh process would hold, not what this one does.
    return choose_budget(read_machine(), args.memory, INTERPRETER_BYTES)


def choice_here(
    args: Namespace,
    spec: ModelSpec,
    budget: Budget,
    audits: Sequence[AuditResult],
    *,
    compare: bool = True,
) -> Choice:
    """Return the choice for this machine; compare: with its alternatives. Raises RequestError."""
    machine = read_machine()
    predict = predictor(measured_rates(machine))
    question = Question(spec, machine, constraints_of(stated(PlanOptions, args)), predict, audits)
    return choose(question, budget, compare=compare)
