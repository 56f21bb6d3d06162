"""OpenAI's, Anthropic's and Vercel's JavaScript clients, from an allowed page and streamed.

`make clients` installs them beside this file, by npm and its lock file.
"""

import shutil
import subprocess
from pathlib import Path

import pytest

from support.live_server import NAME, ScriptedEngine, live, write_chat_model
from tonnage.engine.engine import Engine

FOLDER = Path(__file__).parent
TEXT = ["Hello", " there", ", you."]


@pytest.mark.slow
def test_the_javascript_clients(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None or not (FOLDER / "node_modules" / "installed").is_file():
        pytest.skip("JavaScript clients are not installed: make clients")
    folder = write_chat_model(tmp_path / "hf")
    with (
        Engine.open(str(folder), context=2048, threads=1) as engine,
        live(engine, ScriptedEngine(TEXT), origins=["https://chat.example.org"]) as server,
    ):
        command = [node, str(FOLDER / "check.mjs"), server.url, NAME, "".join(TEXT)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split() == ["openai:", "ok", "anthropic:", "ok", "vercel:", "ok"]
