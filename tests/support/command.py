"""The real command line in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

COMMAND = [sys.executable, "-m", "tonnage"]


def environment(folder: Path, **changes: str) -> dict[str, str]:
    """Return an environment whose cache and configuration lie below `folder`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TONNAGE_")}
    return {**kept, "HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache"), **changes}


def tonnage(
    folder: Path, *args: object, text: str | None = None, **changes: str
) -> subprocess.CompletedProcess[str]:
    """Run `tonnage ARGS` with `text` on stdin; changes: of the environment."""
    return subprocess.run(
        [*COMMAND, *map(str, args)],
        input=text or "",
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        env=environment(folder, **changes),
        timeout=120,
        check=False,
    )


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """Check that a run ended as bad input has to end, and return its sentence."""
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    line, *rest = done.stderr.splitlines()
    assert not rest, done.stderr
    assert line.startswith("tonnage: ")
    assert line.endswith((".", "?")), line
    return line.removeprefix("tonnage: ")
