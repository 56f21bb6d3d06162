"""Loads that take minutes, each a program of its own at the lowest priority.

They are about bytes, not speed, so that they run beside the tests that are about neither;
tests/conftest.py starts them.

Run: python -m support.loads NAME FOLDER
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from support.models import NO_MODEL, model_file
from support.own_process import program, program_env, run_program

REAL_SECONDS = float(os.environ.get("TONNAGE_LOAD_SECONDS", "180"))
TINY_SECONDS = 20.0  # it answers ten times as much in these
LIMIT_SECONDS = 20.0
GRID_SECONDS = 180.0
# For all that is done beside the load, by several at once on few cores.
PATIENCE_S = 600.0
NICE = 19


def load_tiny(folder: Path) -> dict[str, Any]:
    return run_program("random_load", _tiny(folder), TINY_SECONDS, timeout_s=PATIENCE_S)


def load_real(folder: Path) -> dict[str, Any]:
    timeout_s = REAL_SECONDS + PATIENCE_S
    return run_program("random_load", model_file(), REAL_SECONDS, timeout_s=timeout_s)


def load_below_a_limit(folder: Path) -> dict[str, Any]:
    from support.cgroup import memory_group

    # So many layers that a mebibyte, by which the kernel's figures lag, is little of the pages.
    model = _tiny(folder, num_hidden_layers=6)
    with memory_group(1 << 30) as group:
        name = "memory.limit_in_bytes" if group.version == 1 else "memory.max"
        command = program("random_load", model, LIMIT_SECONDS, group.path / name)
        return asdict(group.run(command, env=program_env(), timeout_s=PATIENCE_S))


def load_grid(folder: Path) -> dict[str, Any]:
    from support.budget_grid import check_grid

    return {"lines": check_grid(folder, model_file(), GRID_SECONDS)}


def _tiny(folder: Path, **changes: int) -> Path:
    from support.checkpoints import matrices, tiny_config, tiny_model, write_gguf

    config = tiny_config("llama", max_position_embeddings=1 << 12, **changes)
    return write_gguf(folder / "tiny.gguf", tiny_model(config, seed=1), matrices("Q8_0"))


LOADS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "tiny": load_tiny,
    "limit": load_below_a_limit,
    "real": load_real,
    "grid": load_grid,
}


def why_not(name: str) -> str | None:
    """Return why a load cannot run here, None when it can."""
    if name in ("real", "grid") and not model_file().exists():
        return f"{NO_MODEL}: {model_file().stem}"
    if name in ("limit", "grid"):
        from support import cgroup

        return cgroup.why_not()
    return None


@dataclass
class RunningLoad:
    """A load in a process of its own."""

    process: subprocess.Popen[str]
    folder: Path

    @classmethod
    def start(cls, name: str, folder: Path) -> "RunningLoad":
        """Start it; what it prints goes to files, so that nobody has to read meanwhile."""
        with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
            process = subprocess.Popen(
                program("loads", name, folder), stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                env=program_env(), text=True, start_new_session=True,
            )  # fmt: skip
        return cls(process, folder)

    def result(self) -> dict[str, Any]:
        """Wait for it and return what it told."""
        returncode = self.process.wait(REAL_SECONDS + 2 * PATIENCE_S)
        assert returncode == 0, (self.folder / "err").read_text()[-4000:]
        told = json.loads((self.folder / "out").read_text())
        assert isinstance(told, dict)
        return told

    def stop(self) -> None:
        """End it early as Ctrl-C would, so that it removes its groups."""
        for number in (signal.SIGINT, signal.SIGKILL):
            if self.process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(self.process.pid, number)
                with suppress(subprocess.TimeoutExpired):
                    self.process.wait(20)


if __name__ == "__main__":
    os.nice(NICE)
    print(json.dumps(LOADS[sys.argv[1]](Path(sys.argv[2]))))
