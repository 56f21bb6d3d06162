"""What was said so far, as prompts need it and as a file keeps it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tonnage.core.errors import RequestError

Message = dict[str, str]
_MAX_FILE_BYTES = 16 << 20


class Conversation:
    """Turns of a user and a model, behind a system message if there is one.

    goes_on: there are no roles; everything that was said is one text, which each line continues.
    """

    def __init__(self, system: str | None, *, goes_on: bool) -> None:
        """Begin with nothing said."""
        self.system = system
        self.goes_on = goes_on
        self._turns: list[tuple[str, str]] = []

    def __len__(self) -> int:
        """Return the number of turns."""
        return len(self._turns)

    def prompt(self, line: str) -> str | list[Message]:
        """Return what the model gets to answer `line`."""
        if self.goes_on:
            return "".join(said + answer for said, answer in self._turns) + line
        return [*self.messages(), {"role": "user", "content": line}]

    def messages(self) -> list[Message]:
        """Return all that was said as OpenAI's API has it."""
        found = [] if self.system is None else [{"role": "system", "content": self.system}]
        for said, answer in self._turns:
            found += [
                {"role": "user", "content": said},
                {"role": "assistant", "content": answer},
            ]
        return found

    def add(self, line: str, answer: str) -> None:
        """Take a turn as said."""
        self._turns.append((line, answer))

    def undo(self) -> tuple[str, str] | None:
        """Forget the last turn; return what user and model said in it, None when there is none."""
        return self._turns.pop() if self._turns else None

    def clear(self) -> None:
        """Forget all turns; the system message stays."""
        self._turns.clear()

    def save(self, path: Path) -> None:
        """Write the messages as one JSON object. Raises OSError."""
        text = json.dumps({"messages": self.messages()}, indent=1, ensure_ascii=False)
        path.write_text(text + "\n", "utf-8")

    def load(self, path: Path) -> None:
        """Take what `save` wrote in place of all that was said.

        Raises RequestError for another file, OSError.
        """
        messages = _messages_in(path)
        system = messages[0]["content"] if messages[0]["role"] == "system" else None
        turns = messages[system is not None :]
        roles = [message["role"] for message in turns]
        if len(turns) % 2 or roles != ["user", "assistant"] * (len(turns) // 2):
            raise RequestError(
                f"{path}: behind a system message, user and assistant take turns in a conversation "
                "that can be gone on with."
            )
        self.system = system
        texts = [message["content"] for message in turns]
        self._turns = list(zip(texts[::2], texts[1::2], strict=True))


def _messages_in(path: Path) -> Sequence[Message]:
    """Return the messages of a file, at least one. Raises RequestError, OSError."""
    if path.stat().st_size > _MAX_FILE_BYTES:
        raise RequestError(f"{path} is larger than {_MAX_FILE_BYTES >> 20} MiB; /save writes less.")
    try:
        found: Any = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError):
        raise RequestError(f"{path} is no JSON; give a file that /save wrote.") from None
    messages = found.get("messages") if isinstance(found, dict) else None
    if not isinstance(messages, list) or not messages or not all(map(_is_message, messages)):
        raise RequestError(
            f"{path} has no messages with role and content; give a file that /save wrote."
        )
    return messages


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(value.get(name), str) for name in ("role", "content")
    )
