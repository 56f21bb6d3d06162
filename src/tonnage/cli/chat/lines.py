"""What is typed at a terminal, one message at a time, and the history of that."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

FENCE = '"""'
_MOST_LINES = 1000
# Lines that are there this soon after another were pasted with it.
_PASTED_WITHIN_S = 0.02


class Lines:
    """Reads messages. One that was pasted is one message, whatever lines it has.

    A message of several lines can also be typed between two lines of three quotes. With a
    `history` file, what was typed in earlier sessions can be recalled with the arrow keys.
    """

    def __init__(self, history: Path | None) -> None:
        """Prepare the terminal, and read the history."""
        self._history = history
        # Importing it gives input() line editing and a history; some Pythons have none.
        try:
            import readline
        except ImportError:
            self._readline: ModuleType | None = None
        else:
            self._readline = readline
        self._brackets = self._readline is not None and _take_pastes_whole(self._readline)
        if self._readline is not None and history is not None:
            for line in _kept_lines(history):
                self._readline.add_history(line)

    def read(self) -> str:
        """Return the next message. Raises EOFError at the end, KeyboardInterrupt for Ctrl-C."""
        line = input("> ")
        if line.lstrip().startswith(FENCE):
            line = _block(line.lstrip().removeprefix(FENCE))
        elif not self._brackets:
            line = "\n".join([line, *_waiting_lines()])
        if self._history is not None and line.strip():
            _keep(self._history, line)
        return line


def history_file(environ: Mapping[str, str]) -> Path | None:
    """Return where the history lies: below $XDG_STATE_HOME, None where there is no home.

    Follows the XDG Base Directory Specification 0.8: a relative path is ignored.
    """
    base = environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(base):
        try:
            base = str(Path.home() / ".local" / "state")
        except RuntimeError:
            return None
    return Path(base, "tonnage", "history")


def _take_pastes_whole(readline: ModuleType) -> bool:
    """Have the terminal mark what is pasted; return whether that works.

    Python switches it off in GNU readline, for its own prompt knows no such lines.
    """
    if "libedit" in (readline.__doc__ or "") or os.environ.get("TERM", "dumb") == "dumb":
        return False
    readline.parse_and_bind("set enable-bracketed-paste on")
    return True


def _block(first: str) -> str:
    """Return the lines up to one that ends in three quotes, without these."""
    lines = [first] if first else []
    while not (lines and lines[-1].rstrip().endswith(FENCE)):
        lines.append(input("... "))
    lines[-1] = lines[-1].rstrip().removesuffix(FENCE)
    return "\n".join(lines if lines[-1] else lines[:-1])


def _waiting_lines() -> list[str]:
    """Return the lines that have arrived with the one just read."""
    import select

    lines: list[str] = []
    try:
        while select.select([sys.stdin], [], [], _PASTED_WITHIN_S)[0]:
            lines.append(input())
    except (EOFError, ValueError, OSError):
        pass
    return lines


def _kept_lines(history: Path) -> list[str]:
    """Return the last lines of the history; a file that is none counts as empty."""
    try:
        lines = history.read_text("utf-8").splitlines()[-_MOST_LINES:]
        texts = [json.loads(line) for line in lines]
    except (OSError, ValueError, RecursionError):
        return []
    return [text for text in texts if isinstance(text, str)]


def _keep(history: Path, line: str) -> None:
    """Add a line; a history that cannot be written is no reason to stop."""
    try:
        history.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(history, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with open(handle, "w", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
    except OSError:
        return
