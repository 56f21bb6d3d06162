"""The guarantee: a plan that was accepted runs under a real memory limit equal to its budget.

Plans over a grid of models, budgets and contexts; each accepted one is run in a cgroup of its own:
it fills its context and then serves mixed prompts. `pytest -m guarantee` runs this alone. The grid
of smollm2-135m takes three minutes of load; the other models' needs TONNAGE_TEST_GRID=1.
"""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.cgroup import Outcome, memory_group, why_not
from support.checkpoints import tiny_config, tiny_model, write_gguf
from support.command import COMMAND, tonnage
from support.own_process import program, program_env
from support.page_cache import forget
from text_support import MODELS

MIB = 1 << 20
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
CONTEXTS = (256, 1024, 2048)
SMALL = "smollm2-135m"
# Mixed load in all, shared by the accepted plans of one model.
LOAD_S = {SMALL: 180.0}
OTHER_LOAD_S = 60.0
MODEL_NAMES = (SMALL, "gemma3-270m", "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b")
pytestmark = pytest.mark.guarantee
REASON = why_not()
needs_group = pytest.mark.skipif(REASON is not None, reason=str(REASON))


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


@needs_group
@pytest.mark.slow
@pytest.mark.parametrize("name", MODEL_NAMES)
def test_accepted_plans_hold_their_budget_and_others_are_refused(name, tmp_path, capsys):
    model = MODELS / f"{name}.gguf"
    if not model.exists():
        pytest.skip(f"{name}.gguf is not in the folder of TONNAGE_TEST_MODELS")
    if name != SMALL and not os.environ.get("TONNAGE_TEST_GRID"):
        pytest.skip("minutes per model; TONNAGE_TEST_GRID=1 runs it")
    points = grid(tmp_path, model)
    accepted = [point for point in points if point.plan["accepted"]]
    assert 0 < len(accepted) < len(points)
    seconds = LOAD_S.get(name, OTHER_LOAD_S) / len(accepted)
    for point in points:
        if not point.plan["accepted"]:
            check_refused(tmp_path, model, point)
            continue
        done = serve(model, point, seconds)
        told = check_served(point, done)
        with capsys.disabled():
            print(
                f"\n  {name} {point.context_tokens:5,} tokens: budget "
                f"{point.budget_bytes / MIB:7.1f}, peak {told['peak_rss_bytes'] / MIB:7.1f}, group "
                f"{done.max_usage_bytes / MIB:7.1f} MiB, load {told['load_s']:.2f} s, "
                f"{told['mixed']['answers']} answers",
                end="",
            )


@needs_group
def test_a_small_grid_of_a_tiny_model(tmp_path):
    model = write_gguf(tmp_path / "tiny.gguf", tiny_model(tiny_config("gemma2"), seed=1))
    exact = plan_of(tmp_path, model, "--context", 200)["total_bytes"]
    # A byte less makes the planner choose something smaller; half of it leaves room for nothing.
    for budget, fits in ((exact, True), (exact - 1, True), (exact // 2, False)):
        plan = plan_of(tmp_path, model, "--context", 200, "--memory", budget)
        point = Point(budget, 200, plan)
        assert plan["accepted"] == fits
        if plan["accepted"]:
            check_served(point, serve(model, point, 0.5))
        else:
            check_refused(tmp_path, model, point)


@needs_group
def test_the_group_kills_what_exceeds_it():
    """Otherwise nothing above would show anything."""
    with memory_group(32 * MIB) as group:
        path = group.path
        done = group.run([COMMAND[0], "-c", "held = bytearray(b'x') * (64 << 20)"])
        assert (done.returncode, done.num_oom_kills) == (-9, 1)
    assert not path.exists()
    with memory_group(128 * MIB) as group:
        done = group.run([COMMAND[0], "-c", "held = bytearray(b'x') * (64 << 20)"])
        assert (done.returncode, done.num_oom_kills) == (0, 0)
        assert 64 * MIB < done.max_usage_bytes < 128 * MIB


@needs_group
@pytest.mark.slow
def test_the_page_cache_of_a_cold_file_does_not_slow_a_load(tmp_path):
    """File pages count against the group that reads them first, and give way to weights."""
    source = MODELS / f"{SMALL}.gguf"
    if not source.exists():
        pytest.skip(f"{SMALL}.gguf is not in the folder of TONNAGE_TEST_MODELS")
    model = Path(shutil.copy(source, tmp_path / "own.gguf"))
    plan = plan_of(tmp_path, model, "--context", 1024)
    tight = Point(plan["total_bytes"], 1024, plan)
    wide = Point(tight.budget_bytes + 4 * model.stat().st_size, 1024, plan)
    load_s, usage = {}, {}
    for point in (tight, wide, tight, wide):
        forget(model)
        done = serve(model, point, 0)
        told = check_served(point, done)
        load_s.setdefault(point.budget_bytes, []).append(told["load_s"])
        usage[point.budget_bytes] = done.max_usage_bytes
    # The file and the weights fill the narrow group, and go into the wide one side by side.
    assert usage[tight.budget_bytes] < tight.budget_bytes + PAGE_BYTES
    assert usage[wide.budget_bytes] > tight.budget_bytes
    # A thrashing load reads the file again and again; twice is what a busy disk may take.
    assert min(load_s[tight.budget_bytes]) < 2 * min(load_s[wide.budget_bytes]) + 0.5
