"""A child CPU cgroup of our own, of version 1 or 2, with a quota, and how to run in it."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from tonnage.machine.host_files import HostFiles
from tonnage.machine.limits import cpu_groups

_NUMBERS = count()
_PERIOD_US = 100_000
_JOIN = 'echo $$ > "$0" && exec "$@"'


class NoCpuGroupError(Exception):
    """This process may not make a CPU cgroup; the message says why."""


@dataclass(frozen=True)
class CpuGroup:
    """A CPU cgroup at `path` that this process made."""

    path: Path

    @property
    def join(self) -> list[str]:
        """What to put before a command that is to run in it."""
        return ["/bin/sh", "-c", _JOIN, str(self.path / "cgroup.procs")]

    @property
    def num_throttled(self) -> int:
        """How many periods ended early."""
        lines = (self.path / "cpu.stat").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("nr_throttled"))


@contextmanager
def cpu_group(cpus: float) -> Iterator["CpuGroup"]:
    """Make a group with `cpus` worth of time, and remove it in the end."""
    path = _make(round(cpus * _PERIOD_US))
    try:
        yield CpuGroup(path)
    finally:
        _remove(path)


def _make(quota_us: int) -> Path:
    reasons = []
    for parent in map(Path, cpu_groups(HostFiles())):
        path = parent / f"tonnage-test-{os.getpid()}-{next(_NUMBERS)}"
        try:
            path.mkdir()
        except OSError as error:
            reasons.append(f"{parent}: {error.strerror}")
            continue
        try:
            _limit(path, quota_us)
        except OSError as error:
            reasons.append(f"{parent}: {error.strerror}")
            _remove(path)
            continue
        return path
    raise NoCpuGroupError("; ".join(reasons) or "no CPU controller is mounted")


def _limit(path: Path, quota_us: int) -> None:
    if (path / "cpu.cfs_quota_us").exists():
        (path / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
        (path / "cpu.cfs_quota_us").write_text(str(quota_us))
    else:
        (path / "cpu.max").write_text(f"{quota_us} {_PERIOD_US}")


def _remove(path: Path) -> None:
    """Remove the group; that its processes are gone the kernel notices a little late."""
    for _ in range(100):
        with suppress(OSError):
            path.rmdir()
        if not path.exists():
            return
        time.sleep(0.02)
