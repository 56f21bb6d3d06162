"""Find the interpreters that Tonnage supports, and run tests with each of them.

Looks on PATH, at what pyenv keeps and at what uv manages. What is not found is named, and is no
failure.
Run: python tools/pythons.py [VERSION ...] --list
     python tools/pythons.py [VERSION ...] --wheels FOLDER --tests PATH ...
The first prints their paths. The second makes an environment .venv-VERSION for each, installs the
wheel for it from FOLDER and the extra `test`, and runs pytest without the marks slow and quiet; it
fails where tests of one do.
"""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

VERSIONS = ("3.11", "3.12", "3.13", "3.14")
_ASK = "import sys; print('%d.%d' % sys.version_info[:2], sys.implementation.name, sys.executable)"


def candidates(version: str) -> Iterator[str]:
    """Yield where an interpreter of `version` may be, the most usual place first."""
    yield f"python{version}"
    yield "python3"
    kept = Path.home() / ".pyenv" / "versions"
    yield from map(str, sorted(kept.glob(f"{version}*/bin/python{version}")))
    if shutil.which("uv"):
        asked = subprocess.run(
            ["uv", "python", "find", "--no-python-downloads", version],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        yield from asked.stdout.split()


def found(version: str) -> str | None:
    """Return the path of a CPython of `version` that runs, or None."""
    for command in candidates(version):
        if shutil.which(command) is None:
            continue
        asked = subprocess.run([command, "-c", _ASK], capture_output=True, text=True, check=False)
        words = asked.stdout.split(maxsplit=2)
        if words[:2] == [version, "cpython"]:
            return words[2].strip()
    return None


def environment(python: str, version: str, wheels: Path) -> Path:
    """Make .venv-VERSION anew, with a wheel of `wheels` and what tests need; return its Python."""
    folder = Path(f".venv-{version}")
    subprocess.run([python, "-m", "venv", "--clear", folder], check=True)
    inside = folder / "bin" / "python"
    pip = [inside, "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "--no-index", "--no-deps", "--find-links", wheels, "tonnage"], check=True)
    subprocess.run([*pip, "tonnage[test]"], check=True)
    return inside


def run_tests(versions: Sequence[str], wheels: Path, tests: Sequence[str]) -> int:
    """Run `tests` with each version that is found; return the exit code."""
    outcomes: dict[str, str] = {}
    for version in versions:
        python = found(version)
        if python is None:
            outcomes[version] = f"not found (uv python install {version})"
            continue
        inside = environment(python, version, wheels)
        pytest = [inside, "-m", "pytest", "-q", "-m", "not slow and not quiet"]
        done = subprocess.run([*pytest, *tests], check=False)
        outcomes[version] = f"FAILED ({done.returncode})" if done.returncode else "passed"
    for version, outcome in outcomes.items():
        print(f"Python {version}: {outcome}")
    return int(any(outcome.startswith("FAILED") for outcome in outcomes.values()))


def main(arguments: list[str]) -> int:
    """List interpreters, or run tests; return the exit code."""
    parser = argparse.ArgumentParser(description="The interpreters that are supported.")
    parser.add_argument("versions", nargs="*", default=VERSIONS, help="such as 3.12; all if none")
    parser.add_argument("--list", action="store_true", help="print the paths of those found")
    parser.add_argument("--wheels", type=Path, default=Path("build/dist"), help="where wheels are")
    parser.add_argument("--tests", nargs="+", default=["tests/unit"], help="what pytest is given")
    options = parser.parse_args(arguments)
    if options.list:
        print("\n".join(filter(None, map(found, options.versions))))
        return 0
    return run_tests(options.versions, options.wheels, options.tests)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
