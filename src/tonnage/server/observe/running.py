"""Which servers of this user run: each leaves a file while it does, which `tonnage ps` reads.

$XDG_RUNTIME_DIR/tonnage/serve-PID.json, mode 0600, in a folder of mode 0700. Without that variable
it is the folder tonnage-UID of the system's temporary files, if that is the user's alone.
"""

import json
import os
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tonnage.core.record import record

_MAX_FILE_BYTES = 64 << 10


@record
class RunningServer:
    """A server that runs. started: clock ticks from the system's start; seconds: since then."""

    pid: int
    started: int
    address: str
    models: tuple[str, ...]
    version: str
    seconds: float
    rss_bytes: int

    @property
    def port(self) -> str:
        """The port of its address."""
        return self.address.rpartition(":")[2]

    def is_alive(self) -> bool:
        """Return whether its process is still the same one, and no other of that number."""
        return _started(self.pid) == self.started


@contextmanager
def announced(
    address: str, models: Sequence[str], version: str, environ: Mapping[str, str] = os.environ
) -> Iterator[None]:
    """Leave the file of this process inside the context; where that fails there is none."""
    path = None
    with suppress(OSError):
        path = _own_folder(environ, make=True) / f"serve-{os.getpid()}.json"
        told = {
            "pid": os.getpid(),
            "started": _started(os.getpid()),
            "address": address,
            "models": list(models),
            "version": version,
        }
        path.unlink(missing_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(handle, "w", encoding="utf-8") as stream:
            json.dump(told, stream)
    try:
        yield
    finally:
        if path is not None:
            with suppress(OSError):
                path.unlink()


def running_servers(environ: Mapping[str, str] = os.environ) -> list[RunningServer]:
    """Return the servers of this user that run, the oldest first; files of others are ignored."""
    try:
        files = sorted(_own_folder(environ, make=False).glob("serve-*.json"))
    except OSError:
        return []
    found = [one for one in map(_read, files) if one is not None and one.is_alive()]
    return sorted(found, key=lambda one: one.started)


def _own_folder(environ: Mapping[str, str], *, make: bool) -> Path:
    """Return the folder of the files. Raises OSError where it is not this user's alone."""
    base = environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(base):
        folder = Path(base, "tonnage")
    else:
        folder = Path(environ.get("TMPDIR") or "/tmp", f"tonnage-{os.getuid()}")
    if make:
        folder.mkdir(mode=0o700, exist_ok=True)
    state = folder.lstat()
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.getuid() or state.st_mode & 0o077:
        raise PermissionError(f"{folder} is not this user's alone")
    return folder


def _read(path: Path) -> RunningServer | None:
    """Return what a file tells, None for one that is none of ours."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(handle, "rb") as stream:
            if os.fstat(handle).st_uid != os.getuid():
                return None
            told: Any = json.loads(stream.read(_MAX_FILE_BYTES))
        return RunningServer(
            pid=int(told["pid"]),
            started=int(told["started"]),
            address=str(told["address"]),
            models=tuple(map(str, told["models"])),
            version=str(told["version"]),
            seconds=_age_s(int(told["started"])),
            rss_bytes=_rss_bytes(int(told["pid"])),
        )
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def _started(pid: int) -> int:
    """Return when a process began, in clock ticks from the system's start; 0 where there is none.

    Field 22 of /proc/PID/stat (proc(5)); the name before it may hold spaces and brackets.
    """
    try:
        line = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
        state, *fields = line.rpartition(")")[2].split()
        return 0 if state == "Z" else int(fields[18])
    except (OSError, ValueError, IndexError):
        return 0


def _age_s(started: int) -> float:
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK"))


def _rss_bytes(pid: int) -> int:
    pages = Path(f"/proc/{pid}/statm").read_text("utf-8").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
