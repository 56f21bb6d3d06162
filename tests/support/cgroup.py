"""A child memory cgroup of our own, of version 1 or 2, and a command that runs under its limit.

Sources: the kernel's documents cgroup-v1/memory and cgroup-v2; cgroups(7), proc_pid_mountinfo(5).
"""

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

_NUMBERS = count()
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# The shell joins the group and then becomes the command, so that every page of it is counted.
_JOIN = 'echo $$ > "$0" && exec "$@"'


class NoCgroupError(Exception):
    """This process may not make a memory cgroup; the message says why."""


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    max_usage_bytes: of the group, its page cache and kernel memory included.

    num_limit_hits: how often the limit was met (memory was reclaimed then). num_oom_kills:
    processes that the kernel killed because nothing was left to reclaim.
    """

    returncode: int
    stdout: str
    stderr: str
    wall_s: float
    max_usage_bytes: int
    num_limit_hits: int
    num_oom_kills: int


@dataclass(frozen=True)
class MemoryGroup:
    """A memory cgroup at `path` that this process made; `memory_group` removes it."""

    version: int
    path: Path

    def limit(self, limit_bytes: int) -> None:
        """Let the group hold `limit_bytes`, to the next page; none swapped out if that can be set.

        The kernel rounds down by itself, to a limit below the budget.
        """
        limit_bytes = -(-limit_bytes // _PAGE_BYTES) * _PAGE_BYTES
        if self.version == 1:
            self._write("memory.limit_in_bytes", limit_bytes)
            with suppress(OSError):
                self._write("memory.memsw.limit_in_bytes", limit_bytes)
            with suppress(OSError):
                self._write("memory.swappiness", 0)
            return
        self._write("memory.max", limit_bytes)
        with suppress(OSError):
            self._write("memory.swap.max", 0)

    def run(
        self,
        command: Sequence[object],
        *,
        timeout_s: float = 600,
        env: dict[str, str] | None = None,
    ) -> Outcome:
        """Run `command` in the group; it is killed after `timeout_s`, and so is what it left."""
        begin = time.monotonic()
        joined = ["/bin/sh", "-c", _JOIN, str(self.path / "cgroup.procs"), *map(str, command)]
        try:
            done = subprocess.run(
                joined, capture_output=True, text=True, env=env, timeout=timeout_s, check=False,
                stdin=subprocess.DEVNULL, errors="replace",
            )  # fmt: skip
        finally:
            self._kill_rest()
        wall_s = time.monotonic() - begin
        usage = self._number("memory.max_usage_in_bytes" if self.version == 1 else "memory.peak")
        if self.version == 1:
            hits = self._number("memory.failcnt")
            kills = self._field("memory.oom_control", "oom_kill")
        else:
            hits = self._field("memory.events", "max")
            kills = self._field("memory.events", "oom_kill")
        return Outcome(done.returncode, done.stdout, done.stderr, wall_s, usage, hits, kills)

    def remove(self) -> None:
        """Remove the group; that its processes are gone the kernel notices a little late."""
        for _ in range(100):
            with suppress(OSError):
                self.path.rmdir()
            if not self.path.exists():
                return
            time.sleep(0.02)
        raise NoCgroupError(f"{self.path} cannot be removed; something still runs in it.")

    def _kill_rest(self) -> None:
        for line in (self.path / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(line), 9)

    def _write(self, name: str, value: int) -> None:
        (self.path / name).write_text(str(value))

    def _number(self, name: str) -> int:
        try:
            return int((self.path / name).read_text())
        except OSError:  # memory.peak is younger than version 2
            return 0

    def _field(self, name: str, field: str) -> int:
        pairs = (line.split() for line in (self.path / name).read_text().splitlines())
        return next((int(value) for key, value in pairs if key == field), 0)


@contextmanager
def memory_group(limit_bytes: int) -> Iterator[MemoryGroup]:
    """Make a child group with this limit, and remove it in the end.

    Raises NoCgroupError when this machine has no memory controller or this user no right to it.
    """
    group = _make()
    try:
        group.limit(limit_bytes)
        yield group
    finally:
        group.remove()


def why_not() -> str | None:
    """Return why no group can be made here, None when one can."""
    try:
        with memory_group(64 << 20) as group:
            group.run(["/bin/true"])
    except (NoCgroupError, OSError) as error:
        return f"no memory cgroup of our own: {error}"
    return None


def _make() -> MemoryGroup:
    reasons = []
    for version, parent in parents(
        Path("/proc/self/cgroup").read_text(), Path("/proc/self/mountinfo").read_text()
    ):
        path = parent / f"tonnage-test-{os.getpid()}-{next(_NUMBERS)}"
        try:
            path.mkdir()
        except OSError as error:
            reasons.append(f"{parent}: {error.strerror}")
            continue
        limit = path / ("memory.limit_in_bytes" if version == 1 else "memory.max")
        if os.access(limit, os.W_OK) and os.access(path / "cgroup.procs", os.W_OK):
            return MemoryGroup(version, path)
        path.rmdir()
        reasons.append(f"{parent}: it gives its children no memory limit")
    raise NoCgroupError("; ".join(reasons) or "no memory controller is mounted")


def parents(own: str, mounts: str) -> Iterator[tuple[int, Path]]:
    """Yield (version, directory) where a child may be made, the nearest first.

    own: the text of /proc/self/cgroup, mounts: of /proc/self/mountinfo. A group of version 2 that
    holds processes gives no limits to children, hence its ancestors.
    """
    paths = {}
    for line in own.splitlines():
        _, controllers, path = line.split(":", 2)
        paths.update({name: path for name in controllers.split(",")})
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        root, point = left.split()[3:5]
        kind, _, options = right.split()[:3]
        if kind == "cgroup" and "memory" in options.split(",") and "memory" in paths:
            yield 1, _inside(point, root, paths["memory"])
        elif kind == "cgroup2" and "" in paths:
            directory = _inside(point, root, paths[""])
            yield 2, directory
            while str(directory) != point:
                directory = directory.parent
                yield 2, directory


def _inside(point: str, root: str, path: str) -> Path:
    """Return where `path` of the hierarchy lies, of which `root` is mounted at `point`."""
    if root != "/" and not (path + "/").startswith(root + "/"):
        return Path(point)
    return Path(point) / path.removeprefix(root if root != "/" else "").strip("/")
