"""The guarantee: a plan that was accepted runs under a real memory limit equal to its budget.

Plans over a grid of models, budgets and contexts; each accepted one is run in a cgroup of its own:
it fills its context and then serves mixed prompts. `pytest -m guarantee` runs this alone, and the
grid of smollm2-135m, which takes three minutes of load (`test_load.py`); the grids of the other
models need TONNAGE_TEST_GRID=1.
"""

import os
import shutil
from pathlib import Path

import pytest

from support.budget_grid import MIB, Point, check_grid, check_refused, check_served, plan_of, serve
from support.cgroup import memory_group, why_not
from support.checkpoints import tiny_config, tiny_model, write_gguf
from support.command import COMMAND
from support.models import real_model
from support.page_cache import forget

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
LOAD_S = 60.0  # in all, shared by the accepted plans of one model
OTHERS = ("gemma3-270m", "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b")
pytestmark = pytest.mark.guarantee
REASON = why_not()
needs_group = pytest.mark.skipif(REASON is not None, reason=str(REASON))


@needs_group
@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_accepted_plans_hold_their_budget_and_others_are_refused(name, tmp_path, capsys):
    model = real_model(name)
    if not os.environ.get("TONNAGE_TEST_GRID"):
        pytest.skip("no TONNAGE_TEST_GRID=1: minutes per model")
    lines = check_grid(tmp_path, model, LOAD_S)
    with capsys.disabled():
        print("".join(f"\n  {line}" for line in lines), end="")


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
@pytest.mark.quiet
def test_the_page_cache_of_a_cold_file_does_not_slow_a_load(tmp_path):
    """File pages count against the group that reads them first, and give way to weights."""
    model = Path(shutil.copy(real_model(), tmp_path / "own.gguf"))
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
