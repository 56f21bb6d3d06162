"""`tonnage plan`: what a model takes, from its headers."""

import os
import sys
from argparse import Namespace
from typing import Any

from tonnage.cli.forecast_lines import forecast_values, render_forecast
from tonnage.cli.plan_table import render_chart, render_plan
from tonnage.cli.terminal import LateProgress
from tonnage.core.model_spec import ModelSpec
from tonnage.core.plan import Plan
from tonnage.planner.fit import (
    Budget,
    Wishes,
    binding_item,
    choose_workload,
    concessions,
    require_fit,
)
from tonnage.planner.forecast import forecast
from tonnage.planner.plan import Workload, make_plan


def plan(args: Namespace) -> int:
    """Print the plan that `args` ask for; return 0. Raises BudgetError when it does not fit.

    With --json a refused plan is an answer like any other.
    """
    from tonnage.engine import choose_budget, read_spec
    from tonnage.expectation import measured_rates
    from tonnage.machine.host import read_machine
    from tonnage.models.catalog import open_catalogs
    from tonnage.models.source import resolve

    machine = read_machine()
    budget = choose_budget(machine, args.memory)
    catalogs = open_catalogs(args.catalog, os.environ)
    progress = LateProgress(sys.stderr)
    source = resolve(args.model, catalogs=catalogs, offline=args.offline, progress=progress)
    spec = read_spec(source)
    wishes = Wishes(
        args.context,
        args.threads,
        args.precision,
        args.concurrency,
        step_rows=args.step_rows,
        kv_format=args.kv,
    )
    workload = choose_workload(spec, machine, wishes)
    made = make_plan(spec, workload)
    rates = measured_rates(machine)
    expected = None if rates is None else forecast(made, rates)
    if args.json:
        import json

        values = result(spec, workload, made, budget)
        print(json.dumps({"model": source.name, **values, "forecast": forecast_values(expected)}))
        return 0
    draw = render_chart if args.explain else render_plan
    print(draw(source.name, made, budget.num_bytes))
    print(render_forecast(expected), flush=True)
    require_fit(spec, workload, made, budget)
    return 0


def result(spec: ModelSpec, workload: Workload, made: Plan, budget: Budget) -> dict[str, Any]:
    """Return the object of `--json`; a refused plan also says what binds and what would fit.

    weights: every tensor as it lies in memory, in the order of execution, its padding included;
    the item of that name also has the angles and the rest of the last huge page.
    """
    matrices = [(m.offset, m.name, m.format, m.nbytes) for m in made.matrices]
    vectors = [(v.offset, v.name, "F32", v.nbytes) for v in made.vectors]
    values: dict[str, Any] = {
        "accepted": made.total_bytes <= budget.num_bytes,
        "budget_bytes": budget.num_bytes,
        "total_bytes": made.total_bytes,
        "items": [
            {"name": i.name, "kind": i.kind, "planned_bytes": i.planned_bytes} for i in made.items
        ],
        "weights": [
            {"tensor": name, "format": form, "bytes": nbytes}
            for _, name, form, nbytes in sorted(matrices + vectors)
        ],
        "kv_format": made.kv.format,
        "context_tokens": made.context_tokens,
        "concurrency": made.concurrency,
        "threads": made.threads,
        "step_rows": made.max_rows,
    }
    if not values["accepted"]:
        values["shortfall_bytes"] = made.total_bytes - budget.num_bytes
        values["binding_item"] = binding_item(made).name
        values["concessions"] = [
            {
                "option": one.option,
                "value": one.value,
                "total_bytes": one.total_bytes,
                "saved_bytes": one.saved_bytes,
            }
            for one in concessions(spec, workload, budget.num_bytes)
        ]
    return values
