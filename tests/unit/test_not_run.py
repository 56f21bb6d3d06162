"""What the tests' last line says of those that were not run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.not_run import not_run


def skipped(reason: str, *, file: bool = False) -> pytest.TestReport | pytest.CollectReport:
    where = ("tests/test_x.py", 3, f"Skipped: {reason}")
    if file:
        return pytest.CollectReport("tests/test_x.py", "skipped", where, [])
    return pytest.TestReport("tests/test_x.py::t", ("", 0, ""), {}, "skipped", where, "call")


def test_nothing_is_said_when_all_were_run():
    assert not_run([], 0) == ""


def test_reasons_are_counted_the_most_frequent_first():
    reports = [
        skipped("no chromium"),
        skipped("torch is not installed: parity not checked", file=True),
        *(skipped(f"no real model pulled: {name}") for name in ("a", "b", "c")),
        skipped("no chromium"),
    ]
    assert not_run(reports, 1) == (
        "not run: 3 tests, no real model pulled; 2 tests, no chromium; "
        "1 file, torch is not installed; 1 test, deselected"
    )


def test_it_is_one_line_whatever_a_reason_is():
    assert not_run([skipped("two\nlines")], 0) == "not run: 1 test, two"


def test_a_session_ends_with_the_line_before_pytests_own(tmp_path):
    (tmp_path / "test_some.py").write_text(
        "import pytest\n"
        "def test_a(): pytest.skip('no such thing')\n"
        "def test_b(): pass\n"
        "def test_c(): pass\n"
    )
    tests = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-ra", "-p", "conftest", "-p", "no:cacheprovider",
         "--deselect", "test_some.py::test_c", "."],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tests), *sys.path])},
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    *_, line, last = done.stdout.splitlines()
    assert line == "not run: 1 test, deselected; 1 test, no such thing", done.stdout
    assert "1 passed, 1 skipped, 1 deselected" in last
