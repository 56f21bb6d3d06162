"""Score the tests of a package by mutations: code that mutmut changed must make a test fail.

Works on a copy in build/mutation, one process. A run that the time ends has a score of what it
came to; the next run of the same target goes on.
Run: python tools/mutate.py TARGET [--minutes N] [--tests PATTERN ...], TARGET: a package
(`scheduler`) or a module of one (`scheduler.order`). docs/testing.md holds the scores and says why
the survivors survive.
"""

import argparse
import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
COPIED = ("src", "tests", "tools", "bench", "docs")
# The tests whose subject a package is: fast ones, as each mutation runs those that reach it.
TESTS = {
    "planner": (
        "unit/test_planner*.py", "unit/test_budget.py", "unit/test_choose.py",
        "unit/test_forecast*.py", "unit/test_precision.py", "unit/test_measured_quality.py",
        "unit/test_whatif*.py", "property/test_together.py",
    ),
    "scheduler": ("unit/test_scheduler*.py", "property/test_scheduler*.py"),
    "kvcache": (
        "unit/test_pages.py", "unit/test_page_store.py", "unit/test_page_tier.py",
        "unit/test_prefix_load.py", "unit/test_scheduler.py",
    ),
    "models": ("unit/test_families*.py", "unit/test_rope_frequencies.py"),
    "text": ("unit/test_text*.py", "property/test_text*.py", "hostile/test_templates.py"),
}  # fmt: skip
COUNTS = ("killed", "timeout", "survived", "suspicious", "no_tests", "not_checked", "total")


def settings(target: str, chosen: Sequence[str]) -> str:
    """Return mutmut's section of pyproject.toml for `target`.

    chosen: patterns of the tests that are run, below tests.
    """
    path = f"src/tonnage/{target.replace('.', '/')}"
    patterns = [f"{path}.py", f"{path}/*"]
    tests = sorted(
        path.relative_to(ROOT).as_posix()
        for pattern in chosen
        for path in (ROOT / "tests").glob(pattern)
    )
    values = {
        "source_paths": ["src"],
        "only_mutate": patterns,
        "also_copy": [name for name in COPIED if name not in ("src", "tests")],
        "pytest_add_cli_args": ["-p", "no:cacheprovider", "-m", "not slow and not quiet"],
        "pytest_add_cli_args_test_selection": tests,
    }
    lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    return "\n".join(["", "[tool.mutmut]", *lines, ""])


def lay_out(folder: Path, target: str, chosen: Sequence[str]) -> None:
    """Copy what the tests of `target` need to `folder`; what is there of an earlier run stays."""
    folder.mkdir(parents=True, exist_ok=True)
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in COPIED:
        shutil.copytree(ROOT / name, folder / name, dirs_exist_ok=True, ignore=ignored)
    native = importlib.util.find_spec("tonnage._native")
    if native is None or native.origin is None:
        sys.exit("tonnage is not installed for this Python, so there is nothing to test.")
    package = importlib.util.find_spec("tonnage")
    if package is not None and Path(package.origin or "").is_relative_to(ROOT / "src"):
        sys.exit(
            "This Python imports tonnage from src, so it would not see what is changed in a copy; "
            "use `make mutate`, or one that a wheel was installed into."
        )
    inside = folder / "src" / "tonnage" / Path(native.origin).name
    if not inside.exists():
        shutil.copy(native.origin, inside)
    pyproject = (ROOT / "pyproject.toml").read_text("utf-8")
    (folder / "pyproject.toml").write_text(pyproject + settings(target, chosen), "utf-8")


def mutmut(folder: Path, *arguments: str, timeout_s: float | None = None) -> str:
    """Run mutmut in `folder` and return what it printed; after `timeout_s` it is ended."""
    command = [sys.executable, "-m", "mutmut", *arguments]
    log = folder / "mutmut.log"
    with log.open("w", encoding="utf-8") as out:
        process = subprocess.Popen(
            command, cwd=folder, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.terminate()
            process.wait()
    return log.read_text("utf-8", errors="replace")


def report(folder: Path, target: str) -> str:
    """Return the counts, the score over what was run, and the mutations that no test killed."""
    mutmut(folder, "export-cicd-stats")
    stats = json.loads((folder / "mutants" / "mutmut-cicd-stats.json").read_text("utf-8"))
    killed = stats["killed"] + stats["timeout"]
    tried = killed + stats["survived"] + stats["suspicious"] + stats["no_tests"]
    score = f"{100 * killed / tried:.1f} %" if tried else "none"
    counts = ", ".join(f"{name} {stats[name]}" for name in COUNTS if name in stats)
    survivors = [
        line.strip()
        for line in mutmut(folder, "results").splitlines()
        if line.endswith((": survived", ": no tests", ": suspicious"))
    ]
    return "\n".join([f"{target}: score {score} of {tried} tried ({counts})", *survivors])


def main(arguments: Sequence[str]) -> int:
    """Run and report; return the exit code, 0 also where mutations survive."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("target", help=f"a package or module of: {', '.join(TESTS)}")
    parser.add_argument("--minutes", type=float, default=30.0, help="when to stop (30)")
    parser.add_argument("--tests", nargs="+", help="run these, not all of the package's")
    given = parser.parse_args(arguments)
    package = given.target.partition(".")[0]
    if package not in TESTS:
        parser.error(f"{given.target} is none of {', '.join(TESTS)}, nor a module of one.")
    folder = ROOT / "build" / "mutation" / given.target
    lay_out(folder, given.target, given.tests or TESTS[package])
    printed = mutmut(folder, "run", "--max-children", "1", timeout_s=60 * given.minutes)
    if not (folder / "mutants" / "mutmut-stats.json").exists():
        print(printed[-4000:], file=sys.stderr)
        return 1
    print(report(folder, given.target))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
