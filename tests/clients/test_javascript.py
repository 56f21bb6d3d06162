"""OpenAI's, Anthropic's and Vercel's JavaScript clients, from an allowed page and streamed.

`npm install openai @anthropic-ai/sdk ai @ai-sdk/openai-compatible @ai-sdk/openai
@ai-sdk/anthropic zod` in a folder, and TONNAGE_JS_CLIENTS names it.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from support.live_server import NAME, ScriptedEngine, live, write_chat_model
from tonnage.engine.engine import Engine

CHECK = Path(__file__).parent / "check.mjs"
TEXT = ["Hello", " there", ", you."]


@pytest.mark.slow
def test_the_javascript_clients(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None or "TONNAGE_JS_CLIENTS" not in os.environ:
        pytest.skip("node, or the clients that TONNAGE_JS_CLIENTS names, are not installed")
    folder = write_chat_model(tmp_path / "hf")
    with (
        Engine.open(str(folder), context=2048, threads=1) as engine,
        live(engine, ScriptedEngine(TEXT), origins=["https://chat.example.org"]) as server,
    ):
        command = [node, str(CHECK), server.url, NAME, "".join(TEXT)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split() == ["openai:", "ok", "anthropic:", "ok", "vercel:", "ok"]
