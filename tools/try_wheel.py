"""Install a wheel where there is no compiler, ask a model something, and say how long that took.

Run: python tools/try_wheel.py FOLDER [--python P] [--model M] [--limit SECONDS]
FOLDER holds wheels, of which pip takes the one for P. The environment is fresh and goes afterwards;
PATH names an empty folder. Prints the seconds of fetching the model, installing and answering, and
fails where installing and answering took more than the limit.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

QUESTION = "Why is the sky blue?"


@dataclass(frozen=True)
class Trial:
    """Seconds of a first use, and what the model said. fetch_s: 0 for a file that was there."""

    install_s: float
    fetch_s: float
    answer_s: float
    text: str


def try_wheel(folder: Path, python: str, model: str) -> Trial:
    """Make an environment of `python`, install from `folder`, ask `model`.

    model: a name, which is fetched into a cache of its own, or a path. Raises CalledProcessError.
    """
    with tempfile.TemporaryDirectory() as scratch:
        empty = Path(scratch, "empty")
        empty.mkdir()
        subprocess.run([python, "-m", "venv", Path(scratch, "venv")], check=True)
        inside = Path(scratch, "venv", "bin")
        environ = {**os.environ, "PATH": str(empty), "XDG_CACHE_HOME": str(Path(scratch, "cache"))}
        environ.setdefault("PIP_CACHE_DIR", str(Path.home() / ".cache" / "pip"))
        environ.pop("PYTHONPATH", None)
        pip = [inside / "python", "-m", "pip", "install", "--quiet", "--find-links", folder]
        install_s, _ = _timed([*pip, "--no-index", "--no-deps", "tonnage"], environ)
        needs_s, _ = _timed([*pip, "tonnage"], environ)
        fetch_s = 0.0
        if not Path(model).exists():
            fetch_s, _ = _timed([inside / "tonnage", "pull", model], environ)
        ask = [inside / "tonnage", "run", model, QUESTION, "--max-tokens", "24", "--seed", "1"]
        answer_s, text = _timed(ask, environ)
    return Trial(install_s + needs_s, fetch_s, answer_s, text)


def _timed(command: Sequence[object], environ: dict[str, str]) -> tuple[float, str]:
    begin = time.monotonic()
    done = subprocess.run(
        [str(word) for word in command],
        env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return time.monotonic() - begin, done.stdout.strip()


def main(arguments: list[str]) -> int:
    """Try a wheel and print its times; return the exit code."""
    parser = argparse.ArgumentParser(description="From a wheel to the first answer.")
    parser.add_argument("folder", type=Path, help="where the wheels are")
    parser.add_argument("--python", default=sys.executable, help="the interpreter to try it with")
    parser.add_argument("--model", default="smollm2-135m", help="a name or a path")
    parser.add_argument("--limit", type=float, default=20.0, help="seconds; 20 unless said")
    options = parser.parse_args(arguments)
    trial = try_wheel(options.folder, options.python, options.model)
    print(f"{options.python}: {' '.join(trial.text.split())}")
    took_s = trial.install_s + trial.answer_s
    print(
        f"  installed in {trial.install_s:.1f} s, first answer in {trial.answer_s:.1f} s: "
        f"{took_s:.1f} s; the model was fetched in {trial.fetch_s:.1f} s"
    )
    if not trial.text or took_s > options.limit:
        print(f"More than {options.limit:g} s, or no answer.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
