"""Plans are pure: the same JSON in any process, and the JSON that was reviewed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from golden.regenerate import CHOICES, FOLDER, choices, plans
from tonnage.core.plan import Plan

TESTS = Path(__file__).parents[1]
PLANS = plans()
PRINT_ALL = "from golden.regenerate import plans; print([p.to_json() for p in plans().values()])"


def test_there_is_a_golden_plan_of_each() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == set(PLANS)


@pytest.mark.parametrize("name", PLANS)
def test_the_plan_is_the_reviewed_one(name: str) -> None:
    kept = json.loads((FOLDER / f"{name}.json").read_text())
    assert json.loads(PLANS[name].to_json()) == kept, (
        "the planner changed; if that is meant, see tests/golden/regenerate.py"
    )


def test_the_choices_are_the_reviewed_ones() -> None:
    made = json.loads(json.dumps(choices()))
    assert {path.stem for path in CHOICES.glob("*.json")} == set(made)
    for name, values in made.items():
        kept = json.loads((CHOICES / f"{name}.json").read_text())
        assert values == kept, f"{name}: the choice changed; see tests/golden/regenerate.py"


@pytest.mark.parametrize("name", PLANS)
def test_json_restores_the_plan(name: str) -> None:
    text = PLANS[name].to_json()
    restored = Plan.from_json(text)
    assert restored == PLANS[name]
    assert restored.to_json() == text


def test_the_same_again_in_this_process() -> None:
    assert [plan.to_json() for plan in plans().values()] == [p.to_json() for p in PLANS.values()]


@pytest.mark.parametrize("seed", ["0", "1"])
def test_the_same_in_another_process(seed: str) -> None:
    env = {**os.environ, "PYTHONPATH": str(TESTS), "PYTHONHASHSEED": seed}
    command = [sys.executable, "-c", PRINT_ALL]
    run = subprocess.run(command, env=env, cwd="/", capture_output=True, text=True, check=True)
    assert run.stdout.strip() == str([plan.to_json() for plan in PLANS.values()])


def test_planning_needs_nothing_but_arithmetic() -> None:
    code = (
        "import sys, tonnage.backends.cpu.layout.plan; "
        "print([m for m in ('numpy', 'tonnage._native', 'logging', 'mmap') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
