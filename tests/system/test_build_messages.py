"""What a build says where something is missing: one sentence that names the package to install."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CMAKE = shutil.which("cmake")
pytestmark = pytest.mark.skipif(CMAKE is None, reason="no cmake")


def failed(folder: Path, *options: str, **environ: str) -> str:
    """Configure a build that must fail and return what it says, on one line."""
    command = [str(CMAKE), "-S", str(ROOT), "-B", str(folder / "build"), *options]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    return " ".join(done.stderr.split())


def test_without_a_compiler(tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("make", "ninja"):
        if path := shutil.which(name):
            (tools / name).symlink_to(path)
    said = failed(tmp_path, PATH=str(tools))
    assert "Tonnage is built by a C++ compiler, and none was found: install the package g++" in said


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++")
def test_with_a_compiler_that_is_too_old(tmp_path: Path) -> None:
    old = tmp_path / "old-g++"
    old.write_text('#!/bin/sh\nexec g++ -U__GNUC__ -D__GNUC__=9 "$@"\n')
    old.chmod(0o755)
    said = failed(tmp_path, f"-DCMAKE_CXX_COMPILER={old}", PATH=os.environ["PATH"])
    assert "Tonnage needs gcc 12" in said
    assert "is gcc 9." in said
    assert "install the package g++-12" in said
