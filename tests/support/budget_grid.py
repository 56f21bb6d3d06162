"""Plans over a grid of budgets and contexts, and what runs of them under their limits must show."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.cgroup import Outcome, memory_group
from support.command import tonnage
from support.own_process import program, program_env

CONTEXTS = (256, 1024, 2048)
MIB = 1 << 20


@dataclass(frozen=True)
class Point:
    """A budget and a context, and what `tonnage plan` says of them."""

    budget_bytes: int
    context_tokens: int
    plan: dict[str, Any]


def plan_of(folder: Path, model: Path, *options: object) -> dict[str, Any]:
    done = tonnage(folder, "plan", model, "--json", *options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def budgets(folder: Path, model: Path) -> Iterator[int]:
    """Yield six budgets: exact fits, a byte below one, one without any hope, one with room."""
    totals = [plan_of(folder, model, "--context", n)["total_bytes"] for n in CONTEXTS]
    yield from (totals[0] * 6 // 10, totals[0], totals[1] - 1, *totals[1:], totals[2] * 5 // 4)


def grid(folder: Path, model: Path) -> list[Point]:
    return [
        Point(budget, n, plan_of(folder, model, "--context", n, "--memory", budget))
        for budget in budgets(folder, model)
        for n in CONTEXTS
    ]


def serve(model: Path, point: Point, seconds: float) -> Outcome:
    args = (model, "--memory", point.budget_bytes, "--context", point.context_tokens)
    with memory_group(point.budget_bytes) as group:
        command = program("mixed_load", *args, "--seconds", f"{seconds:.1f}")
        return group.run(command, env=program_env(), timeout_s=120 + 3 * seconds)


def check_served(point: Point, done: Outcome) -> dict[str, Any]:
    what = (point.budget_bytes, point.context_tokens, done.returncode, done.stderr[-1000:])
    assert done.num_oom_kills == 0, what
    assert done.returncode == 0, what
    told = json.loads(done.stdout)
    assert told["peak_rss_bytes"] <= point.budget_bytes, what
    assert sum(told["filled"]) == sum(told["answered"]) == point.context_tokens
    assert told["end"]["total_bytes"] == point.plan["total_bytes"]
    return told


def check_refused(folder: Path, model: Path, point: Point) -> None:
    """The plan names what binds; a run ends at once with the same item in its sentence."""
    items = {item["name"]: item["planned_bytes"] for item in point.plan["items"]}
    binding = point.plan["binding_item"]
    assert items[binding] == max(items.values())
    assert point.plan["shortfall_bytes"] == sum(items.values()) - point.budget_bytes > 0
    options = ("--memory", point.budget_bytes, "--context", point.context_tokens)
    done = tonnage(folder, "run", model, "Hi", *options)
    assert done.returncode == 2
    assert binding in done.stderr


def check_grid(folder: Path, model: Path, load_s: float) -> list[str]:
    """Run every accepted plan under its budget, ask for every refused one; return a line for each.

    load_s: seconds of mixed load, shared by the accepted plans.
    """
    points = grid(folder, model)
    accepted = [point for point in points if point.plan["accepted"]]
    assert 0 < len(accepted) < len(points)
    lines = []
    for point in points:
        if not point.plan["accepted"]:
            check_refused(folder, model, point)
            continue
        done = serve(model, point, load_s / len(accepted))
        told = check_served(point, done)
        lines.append(
            f"{model.stem} {point.context_tokens:5,} tokens: budget "
            f"{point.budget_bytes / MIB:7.1f}, peak {told['peak_rss_bytes'] / MIB:7.1f}, group "
            f"{done.max_usage_bytes / MIB:7.1f} MiB, load {told['load_s']:.2f} s, "
            f"{told['mixed']['answers']} answers"
        )
    return lines
