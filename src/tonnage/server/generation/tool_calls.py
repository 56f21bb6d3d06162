"""Tool calls in what a model writes: between tags (Hermes, Qwen) or as bare JSON (Llama, Mistral).

Llama: {"name": ..., "parameters": {...}}; Mistral: [{"name": ..., "arguments": {...}}].
"""

import json
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

OPEN, CLOSE = "<tool_call>", "</tool_call>"
_SEPARATORS = " \t\r\n,;"


@dataclass(frozen=True, slots=True)
class Call:
    """A call that the model made; arguments: a JSON object as text."""

    call_id: str
    name: str
    arguments: str


class ToolParser:
    """Splits a growing answer into text and calls.

    Text that may turn out to be a call is held back. What looks like a call and is none, because
    its JSON is broken or names no tool that was offered, comes out as the text that it is.
    """

    def __init__(self, names: Collection[str]) -> None:
        """names: of the tools that were offered; with none everything is text."""
        self._names = frozenset(names)
        self._held = ""
        self._bare: list[str] | None = None
        self._inside = False
        self._begun = not names
        self.num_calls = 0

    def push(self, text: str) -> list[str | Call]:
        """Take more of the answer; return the texts and calls that are complete."""
        if not self._names:
            return [text] if text else []
        if self._bare is not None:
            self._bare.append(text)
            return []
        self._held += text
        if not self._begun:
            lead = self._held.lstrip()
            if not lead:
                return []
            self._begun = True
            if lead[0] in "{[":
                self._bare, self._held = [self._held], ""
                return []
        return list(self._tagged())

    def flush(self) -> list[str | Call]:
        """Return what was held back; the answer has ended."""
        if self._bare is not None:
            whole, self._bare = "".join(self._bare), None
            return self._calls_or_text(whole, whole)
        held, self._held = self._held, ""
        if self._inside:
            self._inside = False
            return self._calls_or_text(held, OPEN + held)
        return [held] if held and (held.strip() or not self.num_calls) else []

    def _tagged(self) -> Iterator[str | Call]:
        while True:
            mark = CLOSE if self._inside else OPEN
            before, found, after = self._held.partition(mark)
            if not found:
                break
            if self._inside:
                yield from self._calls_or_text(before, OPEN + before + CLOSE)
            elif before.strip():
                yield before.rstrip()
            self._inside = not self._inside
            self._held = after
        if not self._inside:
            # White space before a call belongs to nothing, so it waits for what follows.
            sure = self._held[: len(self._held) - _num_undecided(self._held)].rstrip()
            self._held = self._held[len(sure) :]
            if sure:
                yield sure

    def _calls_or_text(self, body: str, text: str) -> list[str | Call]:
        calls = self._parsed(body)
        self.num_calls += len(calls)
        return [*calls] if calls else [text]

    def _parsed(self, body: str) -> list[Call]:
        """Return the calls in `body`, none unless all of it is calls."""
        calls = []
        decoder = json.JSONDecoder()
        rest = body.strip(_SEPARATORS)
        while rest:
            try:
                value, end = decoder.raw_decode(rest)
            except (ValueError, RecursionError):
                return []
            found = [self._call(one) for one in (value if isinstance(value, list) else [value])]
            if not found or None in found:
                return []
            calls += [call for call in found if call is not None]
            rest = rest[end:].strip(_SEPARATORS)
        return calls

    def _call(self, value: Any) -> Call | None:
        if not isinstance(value, dict):
            return None
        inner = value.get("function")
        value = inner if isinstance(inner, dict) else value
        name = value.get("name")
        arguments = value.get("arguments", value.get("parameters", {}))
        if not isinstance(name, str) or name not in self._names:
            return None
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments)
            except (ValueError, RecursionError):
                return None
        if not isinstance(arguments, dict):
            return None
        try:
            # Python reads and writes NaN, infinity and halves of surrogate pairs; JSON has none.
            text = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
            text.encode()
        except ValueError:
            return None
        return Call(fresh_id("call"), name, text)


def fresh_id(kind: str) -> str:
    """Return a new name for an object of an answer."""
    return f"{kind}_{os.urandom(12).hex()}"


def _num_undecided(text: str) -> int:
    """Return how many characters at the end may begin a call."""
    return next(
        (n for n in range(min(len(OPEN) - 1, len(text)), 0, -1) if OPEN[:n] == text[-n:]), 0
    )
