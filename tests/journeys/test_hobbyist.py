"""A hobbyist's first hour at a real terminal: from pulling a model to a chat that goes on tomorrow.

Once with SmolLM2, where it is pulled, and once with a tiny model of random weights, whose answers
mean nothing and which needs no download.
"""

import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.command import environment
from support.live_server import write_chat_model
from support.models import real_model
from tonnage.store.cache import CachePlace
from tonnage.store.catalog import PackagedModel, open_catalogs

pexpect = pytest.importorskip("pexpect")

SMOLLM2 = "smollm2-135m"
COLUMNS = 60
# What readline writes before it waits: it asks the terminal to put brackets round what is pasted.
PROMPT = r"\x1b\[\?2004h> "
PATIENCE_S = 120


@dataclass
class Desk:
    """A home folder, a model by the name that its owner calls it, and a terminal for commands."""

    home: Path
    model: str

    @contextmanager
    def terminal(self, *args: str) -> Iterator["pexpect.spawn"]:
        """Run `tonnage ARGS` on a terminal of 60 columns; end it if it has not ended itself."""
        env = environment(
            self.home,
            TERM="xterm",
            XDG_STATE_HOME=str(self.home / "state"),
            PYTHONIOENCODING="utf-8",
            PYTHONUNBUFFERED="1",
        )
        env.pop("COLUMNS", None)
        child = pexpect.spawn(
            sys.executable, ["-m", "tonnage", *args], env=env, cwd=str(self.home),
            dimensions=(40, COLUMNS), encoding="utf-8", codec_errors="replace", timeout=PATIENCE_S,
        )  # fmt: skip
        try:
            yield child
        finally:
            child.close(force=True)

    def said(self, *args: str) -> str:
        """Return what a command prints, and check that it ends well."""
        with self.terminal(*args) as child:
            child.expect(pexpect.EOF)
            text = child.before
            child.close()
            assert child.exitstatus == 0, text
        return text.replace("\r\n", "\n")


@pytest.fixture(params=["tiny", pytest.param(SMOLLM2, marks=pytest.mark.slow)])
def desk(request, tmp_path) -> Desk:
    if request.param == "tiny":
        return Desk(tmp_path, str(write_chat_model(tmp_path / "tiny")))
    # As if it had been pulled before: the same file under the same record.
    entry = open_catalogs(None, {}).find(SMOLLM2)
    assert isinstance(entry, PackagedModel)
    place = CachePlace(tmp_path / "cache" / "tonnage" / "models", entry)
    place.folder.mkdir(parents=True)
    place.file.symlink_to(real_model(SMOLLM2).resolve())
    place.write_record()
    return Desk(tmp_path, SMOLLM2)


def test_a_hobbyist_finds_plans_and_runs_a_model(desk, capsys):
    if desk.model == SMOLLM2:
        assert desk.said("pull", desk.model).strip().endswith(".gguf")
        rows = desk.said("list", "--memory", "1G")
        assert re.search(rf"{SMOLLM2} +instruct +yes", rows), rows
    facts = json.loads(desk.said("show", desk.model, "--json"))
    assert facts["kind"] == "instruct"
    assert facts["num_parameters"] == sum(one["num_elements"] for one in facts["formats"])
    plan = desk.said("plan", desk.model, "--memory", "400M")
    assert re.search(r"total .* of 400.0 MiB, .* to spare", plan), plan
    begin = time.monotonic()
    args = (
        "run",
        desk.model,
        "Why is the sky blue?",
        "--memory",
        "400M",
        "-n",
        "24",
        "--temp",
        "0",
    )
    with desk.terminal(*args) as child:
        child.expect(r"\S")
        first_s = time.monotonic() - begin
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == 0
    with capsys.disabled():
        print(f"\n  {desk.model}: {first_s:.2f} s from the command to the first word", end="")


def test_a_hobbyist_chats_and_comes_back(desk):
    with desk.terminal("chat", desk.model, "--temp", "0", "-n", "16", "--memory", "400M") as chat:
        chat.expect("/help for help")
        chat.expect(PROMPT)

        def answer(line: str) -> str:
            chat.sendline(line)
            chat.expect(PROMPT)
            return chat.before

        answer("Hello, who are you?")
        assert re.search(r"answer +16 tokens, [0-9.]+ a second", answer("/stats"))
        assert "did you mean /system" in answer("/sistem x")
        assert "temperature" in answer("/set")
        answer("/set max_tokens 4")
        # Three lines that are pasted are one message; it counts as one turn.
        chat.send("\x1b[200~one\ntwo\nthree\x1b[201~")
        answer("")
        assert "2 turns" in answer("/save talk.json")
        assert "taken back" in answer("/undo")
        answer("/regen")
        assert "forgotten" in answer("/clear")
        assert "2 turns" in answer("/load talk.json")
        chat.sendline("/exit")
        chat.expect(pexpect.EOF)
        chat.close()
        assert chat.exitstatus == 0
    messages = json.loads((desk.home / "talk.json").read_text())["messages"]
    assert [one["role"] for one in messages] == ["user", "assistant"] * 2
    assert messages[2]["content"] == "one\ntwo\nthree"
    with desk.terminal("chat", desk.model, "--memory", "400M") as chat:
        chat.expect(PROMPT)
        chat.send("\x1b[A\x1b[A")  # what was typed before the last line, in the session before
        chat.expect("load talk.json")  # what is the same on the line stays
        chat.sendcontrol("c")
        chat.expect(r"Ctrl-D or /exit ends")
        chat.expect(PROMPT)
        chat.sendcontrol("d")
        chat.expect(pexpect.EOF)
        chat.close()
        assert chat.exitstatus == 0


def test_ctrl_c_stops_an_answer_and_words_end_before_the_edge(desk):
    args = ("chat", desk.model, "--memory", "400M", "--context", "2k", "--seed", "3")
    with desk.terminal(*args, "--no-history") as chat:
        chat.expect(PROMPT)
        chat.sendline("Tell me a very long story about a ship, a dog and the sea.")
        chat.expect(r"\S[^\n]*\r\n")  # the echo
        time.sleep(1.0)
        chat.sendcontrol("c")
        chat.expect(PROMPT)
        if desk.model == SMOLLM2:
            # The terminal itself shows Ctrl-C, wherever the cursor stands.
            lines = chat.before.replace("\x1b[?2004l\r", "").replace("^C", "").split("\r\n")
            assert max(map(len, lines)) <= COLUMNS, lines
        chat.sendline("/exit")
        chat.expect(pexpect.EOF)
        chat.close()
        assert chat.exitstatus == 0
    assert not (desk.home / "state").exists()
