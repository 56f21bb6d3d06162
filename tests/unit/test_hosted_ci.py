"""The files for hosted CI: every action is pinned, and they agree with what the project says."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from tools.pythons import VERSIONS

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
_USES = re.compile(r"^\s*(?:- )?uses: *(\S+)(.*)$", re.MULTILINE)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit_and_say_their_version(path: Path) -> None:
    for action, comment in _USES.findall(path.read_text("utf-8")):
        if not action.startswith("./"):
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action)
            assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment)


def test_one_version_of_an_action_is_used_everywhere() -> None:
    pins = [pin for path in WORKFLOWS for pin in _USES.findall(path.read_text("utf-8"))]
    names = {action.split("@")[0] for action, _ in pins}
    assert len(names) == len({action for action, _ in pins}) > 3


def test_every_supported_python_is_tried() -> None:
    text = (ROOT / ".github/workflows/tests.yml").read_text("utf-8")
    matrix = re.search(r"python: \[(.*)\]", text)
    assert matrix is not None
    assert tuple(re.findall(r"[\d.]+", matrix.group(1))) == VERSIONS
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["requires-python"] == f">={VERSIONS[0]}"


def test_the_change_log_has_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    lines = (ROOT / "CHANGELOG.md").read_text("utf-8").splitlines()
    assert any(line.startswith(f"## {version}") for line in lines)


@pytest.mark.skipif(shutil.which("actionlint") is None, reason="no actionlint")
def test_actionlint_finds_nothing() -> None:
    done = subprocess.run(["actionlint", *WORKFLOWS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
