"""Programs of this package in a process of their own, so that it weighs what a user's does."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]


def program_env() -> dict[str, str]:
    """Return an environment in which `python -m support.NAME` is found."""
    paths = [str(TESTS), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, paths))}


def program(name: str, *args: object) -> list[str]:
    """Return the command of `support.NAME` with `args`."""
    return [sys.executable, "-m", f"support.{name}", *map(str, args)]


def run_program(name: str, *args: object, timeout_s: float = 300) -> dict[str, Any]:
    """Run `support.NAME` and return the JSON object that it prints."""
    return run_json(program(name, *args), timeout_s=timeout_s)


def run_json(command: Sequence[str], *, timeout_s: float = 300) -> dict[str, Any]:
    """Run a command and return the JSON object that it prints."""
    done = subprocess.run(
        command, capture_output=True, text=True, env=program_env(), timeout=timeout_s, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answer = json.loads(done.stdout)
    assert isinstance(answer, dict)
    return answer
