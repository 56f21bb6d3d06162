"""`tonnage plan`: what a model takes, from its headers, here or on hardware that is not here."""

import os
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tonnage.cli.opening import stated
from tonnage.cli.render.choice_words import quality_lines, rejected_lines
from tonnage.cli.render.forecast_lines import forecast_values, render_forecast
from tonnage.cli.render.plan_table import render_chart, render_plan
from tonnage.cli.render.terminal import PullProgress
from tonnage.core.errors import RequestError
from tonnage.core.hardware import Device, Hardware
from tonnage.core.model_spec import ModelSpec
from tonnage.core.quality import AuditResult
from tonnage.core.record import record
from tonnage.engine.opening import constraints_of, draft_rows
from tonnage.engine.options import PlanOptions
from tonnage.engine.planning import choose_here, fresh_budget, question_of
from tonnage.planner.cost.forecast import Forecast
from tonnage.planner.plan_file import PlanFile
from tonnage.planner.quality.measured import audit_of
from tonnage.planner.search.alternatives import Alternative
from tonnage.planner.search.budget import Budget, device_budget
from tonnage.planner.search.candidate import Speed
from tonnage.planner.search.choose import PlanChoice, choose, require_fit
from tonnage.planner.search.relaxations import binding_item
from tonnage.store.source import ModelSource


@record
class PlanResult:
    """A plan and what it was made for; device: None for this machine.

    audits: all of the model; measured: the one of just what was chosen. file: what -o writes.
    """

    model: str
    choice: PlanChoice
    budget: Budget
    audits: Sequence[AuditResult] = ()
    measured: AuditResult | None = None
    device: Device | None = None
    file: PlanFile | None = None


def plan(args: Namespace) -> int:
    """Print the plan that `args` ask for; return 0. Raises BudgetError when it does not fit.

    With --json a refused plan is a result like any other.
    """
    if args.machines:
        from tonnage.cli.commands.machines import print_machines

        print_machines(as_json=args.json)
        return 0
    if args.output is not None and args.machine:
        raise RequestError("-o writes a plan for this machine; leave out --machine.")
    results, catalog = _results(args)
    if args.svg is not None:
        from tonnage.cli.render.plan_svg import render_svg

        first = results[0]
        picture = render_svg(first.model, first.choice.plan, first.budget.num_bytes)
        args.svg.write_text(picture, "utf-8")
    if args.output is not None:
        _write(args.output, results[0])
    if args.json:
        import json

        objects = [_with_machine(planned, catalog) for planned in results]
        print(json.dumps(objects[0] if len(objects) == 1 else {"machines": objects}))
        return 0
    draw = render_chart if args.explain else render_plan
    for number, planned in enumerate(results):
        lines = ["" for _ in range(min(number, 1))]
        lines.append(draw(planned.model, planned.choice.plan, planned.budget.num_bytes))
        lines += ["", *_quality(planned), *_speed(planned, catalog)]
        print("\n".join([*lines, *rejected_lines(planned.choice)]), flush=True)
    for planned in results:
        require_fit(planned.choice, planned.budget)
    return 0


def _write(path: Path, planned: PlanResult) -> None:
    """Write the plan file. Raises BudgetError for a plan that does not fit."""
    from tonnage.store.cache import write_whole

    require_fit(planned.choice, planned.budget)
    assert planned.file is not None
    write_whole(path, planned.file.to_json().encode())


def _results(args: Namespace) -> tuple[list[PlanResult], Hardware | None]:
    from tonnage.engine.headers import read_spec
    from tonnage.store.catalog import open_catalogs
    from tonnage.store.source import resolve

    catalogs = open_catalogs(args.catalog, os.environ)
    devices, catalog = _devices(args.machine)
    # Budgets first: a wrong one is said before anything is pulled.
    budgets = [device_budget(device, args.memory) for device in devices] or [
        fresh_budget(args.memory)
    ]
    progress = PullProgress(sys.stderr)
    source = resolve(args.model, catalogs=catalogs, offline=args.offline, progress=progress)
    spec = read_spec(source)
    if catalog is None:
        return [_here(args, source, spec, budgets[0])], None
    pairs = zip(devices, budgets, strict=True)
    return [_there(args, source, spec, catalog, *pair) for pair in pairs], catalog


def _devices(wanted: Sequence[str]) -> tuple[list[Device], Hardware | None]:
    if not wanted:
        return [], None
    from tonnage.machine.hardware import find_device, load_shipped

    catalog = load_shipped()
    return [find_device(catalog, name) for name in wanted], catalog


def _options(args: Namespace) -> PlanOptions:
    """Return what was stated, with the rows of logits that drafts would take."""
    options: PlanOptions = stated(PlanOptions, args)
    drafts = draft_rows(args.speculate or "off")
    if drafts:
        options["max_logit_rows"] = options.get("concurrency", 1) + drafts
    return options


def _here(args: Namespace, source: ModelSource, spec: ModelSpec, budget: Budget) -> PlanResult:
    from tonnage.store.audits import cached_audits

    audits = cached_audits(source.path)
    choice = choose_here(spec, budget, _options(args), audits)
    measured = audit_of(spec, choice.workload, audits)
    file = None
    if args.output is not None:
        from tonnage.engine.plan_files import plan_file_of
        from tonnage.machine.host import read_machine

        stated_bytes = None if args.memory is None else budget.num_bytes
        file = plan_file_of(choice, source, spec, read_machine(), stated_bytes)
    return PlanResult(source.name, choice, budget, audits, measured, file=file)


def _there(
    args: Namespace,
    source: ModelSource,
    spec: ModelSpec,
    catalog: Hardware,
    device: Device,
    budget: Budget,
) -> PlanResult:
    from dataclasses import replace

    from tonnage.planner.cost.whatif import speed_on

    prior = catalog.prior
    assert prior is not None
    # One thread: how many this machine has says nothing about another.
    constraints = replace(constraints_of(_options(args)), threads=args.threads or 1)
    question = question_of(spec, constraints, lambda made: speed_on(made, device, prior))
    choice = choose(question, budget)
    return PlanResult(source.name, choice, budget, device=device)


def _with_machine(planned: PlanResult, catalog: Hardware | None) -> dict[str, Any]:
    values = result(planned)
    if planned.device is not None and catalog is not None:
        from tonnage.cli.commands.machines import machine_json

        values["machine"] = machine_json(planned.choice.plan, planned.device, catalog)
    return values


def _quality(planned: PlanResult) -> Iterator[str]:
    yield from quality_lines(planned.choice, planned.audits, planned.measured)


def _speed(planned: PlanResult, catalog: Hardware | None) -> Iterator[str]:
    if planned.device is not None and catalog is not None:
        from tonnage.cli.commands.machines import machine_lines

        yield from machine_lines(planned.choice.plan, planned.device, catalog)
        return
    expected = planned.choice.forecast
    yield render_forecast(expected if isinstance(expected, Forecast) else None)


def result(planned: PlanResult) -> dict[str, Any]:
    """Return the object of `--json`; a refused plan also says what binds and what would fit.

    weights: every tensor as it lies in memory, in the order of execution, its padding included;
    the item of that name also has the angles and the rest of the last huge page. forecast: null
    where this machine was not measured.
    """
    choice, made = planned.choice, planned.choice.plan
    matrices = [(m.offset, m.name, m.format, m.nbytes) for m in made.matrices]
    vectors = [(v.offset, v.name, "F32", v.nbytes) for v in made.vectors]
    values: dict[str, Any] = {
        "model": planned.model,
        "accepted": choice.accepted,
        "budget_bytes": planned.budget.num_bytes,
        "budget_origin": planned.budget.origin,
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
        "max_batch_tokens": made.max_rows,
        "forecast": _forecast(choice.forecast),
        "quality": {**asdict(choice.quality), "max_kld": choice.constraints.max_kld},
        "audits": [asdict(audit) for audit in planned.audits],
        "rejected": [_alternative(one) for one in choice.rejected],
    }
    if not choice.accepted:
        values["shortfall_bytes"] = made.total_bytes - planned.budget.num_bytes
        values["binding_item"] = binding_item(made).name
        values["relaxations"] = [asdict(one) for one in choice.relaxations]
    return values


def _forecast(forecast: Speed | None) -> dict[str, Any] | None:
    if forecast is None or isinstance(forecast, Forecast):
        return forecast_values(forecast)
    return {
        "decode_tokens_per_s": forecast.decode_tokens_per_s,
        "prefill_tokens_per_s": forecast.prefill_tokens_per_s,
        "time_to_first_token_ns": forecast.time_to_first_token_ns,
        "bottleneck": forecast.bottleneck,
    }


def _alternative(one: Alternative) -> dict[str, Any]:
    return {
        "change": one.change,
        "reason": one.reason,
        "total_bytes": one.total_bytes,
        "forecast": _forecast(one.forecast),
        "quality": asdict(one.quality),
        "weights": one.weights,
        "context_tokens": one.context_tokens,
        "kv_format": one.kv_format,
        "max_batch_tokens": one.max_batch_tokens,
        "threads": one.threads,
    }
