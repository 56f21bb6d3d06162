"""Separates tool calls from text in a completion, as it comes."""

import re
from collections.abc import Collection, Sequence
from functools import lru_cache

from tonnage.server.generation.call_formats import (
    BARE,
    PYTHONIC,
    SEPARATORS,
    TAGGED,
    Call,
    CallFormat,
    call_of,
    calls_in,
    decoded,
)
from tonnage.server.generation.call_python import PythonScanner, python_calls
from tonnage.server.generation.call_scanner import CallScanner, Verdict
from tonnage.server.generation.tool_use import CallRules

_GAP = re.compile(f"[{SEPARATORS}]*")


class _Openers:
    """What may stand before calls."""

    def __init__(self, formats: Sequence[CallFormat]) -> None:
        self.formats = {one.open: one for one in formats if one.open}
        self.regex = re.compile("|".join(map(re.escape, sorted(self.formats, key=len)[::-1])))
        self.is_pythonic = PYTHONIC in formats
        self._most = max(map(len, self.formats)) - 1

    def num_undecided(self, text: str) -> int:
        """Return how many characters at the end may begin an opener."""
        tails = (text[-size:] for size in range(min(self._most, len(text)), 0, -1))
        return next((len(tail) for tail in tails if self.has_part(tail)), 0)

    def has_part(self, text: str) -> bool:
        """Whether an opener begins with a text and goes on."""
        return any(one.startswith(text) and one != text for one in self.formats)


_openers = lru_cache(maxsize=16)(_Openers)


class ToolParser:
    """Splits a growing completion into text and calls.

    Text that may turn out to be a call is held back. What is no whole call, because its JSON is
    broken or cut, names no tool that was offered, or says more than a call, comes out as the text
    that it is. White space around calls is dropped, any other is kept. Results do not depend on how
    the completion was cut into deltas.
    """

    def __init__(
        self,
        names: Collection[str],
        *,
        formats: tuple[CallFormat, ...] = TAGGED,
        with_bare: bool = True,
        is_single: bool = False,
    ) -> None:
        """names: of the tools that were offered; with none everything is text.

        formats: what calls are looked for in. with_bare: a completion that is JSON throughout may
        be calls, too. is_single: calls behind the first are left out.
        """
        self._openers = _openers(formats)
        self._names = frozenset(names)
        self._is_single = is_single
        self._held = ""
        self._block: _Block | None = None
        self._may_be_bare = with_bare
        self._num_calls = 0
        self._follows_call = False

    @property
    def is_complete(self) -> bool:
        """Whether nothing that may come is wanted: there is the one call that was asked for."""
        return self._is_single and self._num_calls > 0

    def push(self, text: str) -> list[str | Call]:
        """Take more of the completion; return the texts and calls that are complete."""
        if not self._names:
            return [text] if text else []
        self._held += text
        parts: list[str | Call] = []
        while self._held:
            if not (self._in_text(parts) if self._block is None else self._in_block(parts)):
                break
        return parts

    def flush(self) -> list[str | Call]:
        """Return what was held back; the completion has ended."""
        parts: list[str | Call] = []
        if self._block is not None:
            self._close(parts, self._block.calls)
        held, self._held = self._held, ""
        if held.strip() or not self._follows_call:
            self._emit(parts, held)
        return parts

    def _in_text(self, parts: list[str | Call]) -> bool:
        """Emit text up to what may begin a call; return whether a block was opened there."""
        held = self._held
        found = self._openers.regex.search(held)
        undecided = self._openers.num_undecided(held)
        lead = held.lstrip()
        begin = len(held) - len(lead)
        may_be_bare = self._may_be_bare and lead[:1] in ("{", "[") and undecided < len(lead)
        if may_be_bare and (found is None or found.start() > begin):
            return self._open_bare(parts, held[:begin], lead)
        if found and found.start() < len(held) - undecided:
            format_ = self._openers.formats[found.group()]
            self._open(parts, format_, held[: found.start()], found.group())
            return True
        # White space before a call belongs to nothing, so it waits for what follows.
        sure = held[: len(held) - undecided].rstrip()
        self._held = held[len(sure) :]
        self._emit(parts, sure)
        return False

    def _open_bare(self, parts: list[str | Call], before: str, lead: str) -> bool:
        """Open the block of a completion that is calls throughout; return whether that is sure."""
        format_ = BARE
        if self._openers.is_pythonic and lead[0] == "[":
            inside = lead[1:].lstrip()
            if not inside:
                return False
            format_ = BARE if inside[0] in "{[" else PYTHONIC
        self._open(parts, format_, before, "")
        return True

    def _open(self, parts: list[str | Call], format_: CallFormat, before: str, opener: str) -> None:
        text = before.rstrip()
        self._emit(parts, text)
        self._held = self._held[len(before) + len(opener) :]
        self._block = _Block(format_, self._openers, self._names, before[len(text) :] + opener)
        self._may_be_bare = False

    def _in_block(self, parts: list[str | Call]) -> bool:
        """Take what is held of a block; return whether more of it can be decided."""
        block = self._block
        assert block is not None
        num_taken = block.take(self._held)
        self._held = self._held[num_taken:]
        if block.calls and not block.format.is_exclusive:
            self._accept(parts, block.calls)
            block.forget()
        if block.is_over:
            self._close(parts, block.calls if block.is_closed else [])
        return num_taken > 0 or block.is_over

    def _close(self, parts: list[str | Call], calls: list[Call]) -> None:
        """Leave the block: with calls, else as the text that it is."""
        block, self._block = self._block, None
        assert block is not None
        if calls and block.is_between:
            self._accept(parts, calls)
        elif block.format.is_exclusive or not block.is_between:
            text = block.text.rstrip()
            self._emit(parts, text)
            self._held = block.text[len(text) :] + self._held  # a call may follow
        elif not block.is_closed:
            self._held = block.text + self._held  # white space behind calls

    def _accept(self, parts: list[str | Call], calls: list[Call]) -> None:
        wanted = calls[: max(0, 1 - self._num_calls)] if self._is_single else calls
        self._num_calls += len(calls)
        self._follows_call = True
        parts += wanted

    def _emit(self, parts: list[str | Call], text: str) -> None:
        if text:
            self._may_be_bare = self._may_be_bare and not text.strip()
            self._follows_call = False
            parts.append(text)


def parser_of(rules: CallRules) -> ToolParser:
    """Return the parser of one completion."""
    return ToolParser(
        rules.names,
        formats=rules.formats,
        with_bare=rules.with_bare,
        is_single=rules.is_single,
    )


class _Block:
    """What follows an opener: calls, and whatever stands between them."""

    def __init__(
        self, format_: CallFormat, openers: _Openers, names: Collection[str], opener: str
    ) -> None:
        """opener: as it stands in the completion, with the white space before."""
        self.format = format_
        self._openers = openers
        self.calls: list[Call] = []
        self.is_over = False
        self.is_closed = False  # over because its end was written
        self.is_between = False  # behind a call
        self._names = names
        self._parts = [opener]
        self._value: list[str] = []
        self._name: str | None = None  # where it stands before the arguments
        self._scanner: CallScanner | PythonScanner | None = None

    @property
    def text(self) -> str:
        """What was taken since the opener, or since `forget`."""
        return "".join(self._parts)

    def forget(self) -> None:
        """Drop what was taken: its calls have been handed on."""
        self.calls, self._parts = [], []

    def take(self, text: str) -> int:
        """Take characters up to the end of the block or of a value; return how many."""
        at = _GAP.match(text).end() if self._scanner is None else 0  # type: ignore[union-attr]
        if at < len(text):
            at = self._begin(text, at) if self._scanner is None else self._follow(text, at)
        self._parts.append(text[:at])
        return at

    def _begin(self, text: str, at: int) -> int:
        """Take what stands before the next value; return up to where."""
        is_opener = self._openers.regex.match(text, at) is not None
        if not is_opener and text[at] in "{[" and self._openers.has_part(text[at:]):
            return at
        scanner = None if is_opener else self._scanner_of(text[at])
        if scanner is not None:
            self._scanner = scanner
            self.is_between = False
            return self._follow(text, at)
        for end, name in self._ends().items():
            if text.startswith(end, at):
                self._name = name
                self.is_over = self.is_closed = name is None
                return at + len(end)
            if end.startswith(text[at : at + len(end)]):
                return at
        self.is_over = True
        return at

    def _scanner_of(self, char: str) -> CallScanner | PythonScanner | None:
        """Return what follows a value that begins so, None where none does."""
        match self.format.syntax:
            case "json" if char in "{[":
                return CallScanner(self._names if self._name is None else None)
            case "list" if char == "[":
                return PythonScanner(self._names, in_list=True)
            case "line" if char.isidentifier():
                return PythonScanner(self._names, in_list=False)
        return None

    def _ends(self) -> dict[str, str | None]:
        """Return what may stand here beside a value: the end of the block, or a function's name."""
        format_ = self.format
        if self.is_between:
            return {format_.close: None} if format_.close else {}
        return {n + format_.name_end: n for n in self._names} if format_.name_end else {}

    def _follow(self, text: str, at: int) -> int:
        """Take more of a value; return up to where."""
        assert self._scanner is not None
        for end in range(at, len(text)):
            verdict = self._scanner.take(text[end])
            if verdict is Verdict.NO_CALL:
                self.is_over = True
                return end
            if verdict is Verdict.ENDED:
                self._value.append(text[at : end + 1])
                self._end_value()
                return end + 1
        self._value.append(text[at:])
        return len(text)

    def _end_value(self) -> None:
        value, self._value, self._scanner = "".join(self._value), [], None
        if self.format.syntax != "json":
            found = python_calls(value, self._names)
        elif self._name is None:
            need_arguments = self.format.is_exclusive
            found = calls_in(value, self._names, need_arguments=need_arguments)
        else:
            call = call_of(self._name, decoded(value))
            found = [call] if call is not None else []
        self._name = None
        self.calls += found
        self.is_between = bool(found)
        self.is_over = not found
