"""Every command and program of README, CONTRIBUTING and docs does what it is shown for: it runs.

Those that need more than SmolLM2-135M say so in a comment before them. `tonnage serve` is ended
once it listens; completions, `bench` and `audit` are shorter than they would be; clients find a
server.
"""

import contextlib
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.command import COMMAND, environment
from support.models import real_model
from support.snippets import RUN, Snippet, all_snippets, furnish, snippets_of

ALL = all_snippets()
SHOWN = [one for one in ALL if one.kind in RUN and one.reason is None]
ADDRESS = "127.0.0.1:8000"


def test_a_block_is_found_with_its_kind_line_and_reason():
    text = "A.\n\n```sh\nls\n```\n\n<!-- not run: needs a printer -->\n```python\nx = 1\n```\n"
    first, second = snippets_of(text, "d.md")
    assert first == Snippet("d.md", 3, "sh", "ls\n", None)
    assert second == Snippet("d.md", 8, "python", "x = 1\n", "needs a printer")


def test_of_a_console_the_prompts_are_commands():
    one = Snippet("d.md", 1, "console", "$ a \\\n  b\nout\n$ c\n", None)
    assert one.commands == "a \\\n  b\nc"


@pytest.mark.parametrize("snippet", [one for one in ALL if one.kind in RUN], ids=str)
def test_blocks_can_be_read_by_what_runs_them(snippet):
    if snippet.kind == "python":
        compile(snippet.text, str(snippet), "exec")
        return
    command = ["bash", "-n"]
    done = subprocess.run(
        command, input=snippet.commands, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_block_says_what_it_is():
    assert [str(one) for one in ALL if not one.kind] == []
    assert [str(one) for one in ALL if one.reason is not None and len(one.reason.split()) < 3] == []


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> tuple[Path, dict[str, str]]:
    """Return a folder with all that snippets name, and the environment for them."""
    folder = tmp_path_factory.mktemp("snippets")
    return folder / "desk", environment(folder, **furnish(folder, real_model()))


@pytest.fixture(scope="module")
def address(desk) -> Iterator[str]:
    """Yield host and port of a running server."""
    files, variables = desk
    words = ["serve", "smollm2-135m", "--memory", "400MiB", "--port", "0", "--alias", "gpt-4o-mini"]
    with subprocess.Popen(
        [*COMMAND, *words], cwd=files, env=variables, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            line = next((one for one in process.stderr if " at http://" in one), "")
            yield line.split(" at http://")[1].split()[0].rstrip("/")
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=30)
            process.kill()


@contextlib.contextmanager
def terminal() -> Iterator[int]:
    """Yield a terminal at which somebody ends each conversation."""
    there, here = pty.openpty()
    try:
        os.write(there, b"/exit\n\x04" * 8)
        yield here
    finally:
        os.close(here)
        os.close(there)


@pytest.mark.slow
@pytest.mark.parametrize("snippet", SHOWN, ids=str)
def test_it_runs(snippet, desk, request):
    files, variables = desk
    text = snippet.text if snippet.kind == "python" else snippet.commands
    if ADDRESS in text:
        text = text.replace(ADDRESS, request.getfixturevalue("address"))
    shell = ["bash", "-xeuo", "pipefail", "-c"]
    command = [sys.executable, "-c", text] if snippet.kind == "python" else [*shell, text]
    with terminal() as stdin:
        done = subprocess.run(
            command,
            cwd=files,
            env=variables,
            stdin=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=600,
            check=False,
        )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
