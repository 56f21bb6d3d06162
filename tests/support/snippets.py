"""The commands and programs of the documents, and a folder in which they can be run."""

import json
import os
import re
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from support.live_server import write_chat_model

REPOSITORY = Path(__file__).parents[2]
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "docs/**/*.md")
# Signatures, which a test of their own compares with the code.
WITHOUT = ("docs/reference/api.md",)
RUN = ("sh", "console", "python")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_REASON = re.compile(r"<!-- not run: (.+?) -->\n+\Z", re.DOTALL)


@dataclass(frozen=True)
class Snippet:
    """A fenced block; reason: why it is not run, as a comment right before it says."""

    document: str
    line: int
    kind: str
    text: str
    reason: str | None

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"

    @property
    def commands(self) -> str:
        """What a shell runs of it; of a console the lines behind a prompt, and what they go on."""
        if self.kind != "console":
            return self.text
        lines = re.findall(r"^\$ ((?:.*\\\n)*.*)", self.text, re.MULTILINE)
        return "\n".join(lines)


def snippets_of(text: str, document: str) -> Iterator[Snippet]:
    """Yield the fenced blocks of a document."""
    for found in _FENCE.finditer(text):
        before = text[: found.start()]
        reason = _REASON.search(before)
        line = before.count("\n") + 1
        yield Snippet(document, line, found[1], found[2], reason and reason[1])


def all_snippets() -> list[Snippet]:
    """Return every fenced block of the documents."""
    found: list[Snippet] = []
    for pattern in DOCUMENTS:
        for path in sorted(REPOSITORY.glob(pattern)):
            name = path.relative_to(REPOSITORY).as_posix()
            if name not in WITHOUT:
                found += snippets_of(path.read_text("utf-8"), name)
    return found


# A server is started, asked nothing and ended; what takes minutes takes less of them.
_WRAPPER = """#!/usr/bin/env bash
real=({python} -m tonnage)
case "$1" in
  run | chat) exec "${{real[@]}}" "$@" --max-tokens 16 ;;
  bench) exec "${{real[@]}}" "$@" --quick ;;
  audit) exec "${{real[@]}}" "$@" --chunks 2 ;;
  serve) ;;
  *) exec "${{real[@]}}" "$@" ;;
esac
if [[ " $* " == *" --plan "* || " $* " == *" --help "* ]]; then exec "${{real[@]}}" "$@"; fi
log=$(mktemp)
"${{real[@]}}" "$@" --port 0 2>"$log" & pid=$!
until grep -q ' at http://' "$log"; do
  kill -0 $pid 2>/dev/null || {{ cat "$log" >&2; wait $pid; exit; }}
  sleep 0.1
done
kill -TERM $pid
wait $pid
"""
# Names of the catalog that documents use, beside the one that is here: its file stands in for them.
_STAND_INS = ("gemma3-270m-it", "gemma3-1b-it", "qwen3-0.6b", "qwen2.5-coder-0.5b")
_ROW = """[[model]]
name = "{name}"
owner = "o"
publisher = "p"
licence = "l"
kind = "instruct"
packages = ["stands-in"]
inside = "*"
bytes = {num_bytes}
sha256 = "{digest}"
store_as = "model.gguf"
"""
_DIGEST = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_KEYS = '[tenant.alice]\nkey = "a-key-of-sixteen-letters"\n'
_TOML = 'models = ["smollm2-135m"]\nmemory = "300MiB"\nport = 9000\n'


def furnish(folder: Path, model: Path) -> dict[str, str]:
    """Put everything that snippets name into `folder`; return the environment to run them in.

    model: the file of SmolLM2-135M, which all GGUF files of the documents are.
    """
    files = folder / "desk"
    files.mkdir()
    _keep(folder, "smollm2-135m", "SmolLM2-135M-Instruct.Q4_1.gguf", model)
    rows = []
    for name in _STAND_INS:
        _keep(folder, name, "model.gguf", model)
        rows.append(_ROW.format(name=name, num_bytes=model.stat().st_size, digest=_DIGEST))
    (folder / "catalog.toml").write_text("\n".join(rows))
    for name in ("model", "q4", "q8", "qwen2.5-coder-1.5b"):
        (files / f"{name}.gguf").symlink_to(model.resolve())
    write_chat_model(files / "llama-folder")
    (files / "long.txt").write_text("The sky is blue. " * 100)
    (files / "notes.txt").write_text("Buy bread. Call Anna.")
    lines = [{"prompt": f"Count to {n}.", "max_tokens": 8} for n in range(3)]
    (files / "in.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in lines))
    (files / "keys.toml").write_text(_KEYS)
    (files / "serve.toml").write_text(_TOML)
    command = folder / "bin" / "tonnage"
    command.parent.mkdir()
    command.write_text(_WRAPPER.format(python=sys.executable))
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    return {
        "PATH": f"{command.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "TONNAGE_CATALOG": str(folder / "catalog.toml"),
    }


def _keep(folder: Path, name: str, store_as: str, model: Path) -> None:
    place = folder / "cache" / "tonnage" / "models" / name
    place.mkdir(parents=True)
    (place / store_as).symlink_to(model.resolve())
    (place / f"{store_as}.sha256").write_text(f"{_DIGEST}  {store_as}\n")
