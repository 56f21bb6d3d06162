"""Tells tool calls from text in what a model writes, while it writes it."""

import re
from collections.abc import Collection

from tonnage.server.generation.call_formats import (
    BARE,
    SEPARATORS,
    TAGGED,
    Call,
    CallFormat,
    call_of,
    calls_in,
    decoded,
)
from tonnage.server.generation.call_scanner import CallScanner, Verdict

_OPENERS = {format_.open: format_ for format_ in TAGGED}
_GAP = re.compile(f"[{SEPARATORS}]*")
_OPENER = re.compile("|".join(map(re.escape, sorted(_OPENERS, key=len, reverse=True))))


class ToolParser:
    """Splits a growing completion into text and calls.

    Text that may turn out to be a call is held back. What is no whole call, because its JSON is
    broken or cut, names no tool that was offered, or says more than a call, comes out as the text
    that it is. White space around calls is dropped, any other is kept. Results do not depend on how
    the completion was cut into deltas.
    """

    def __init__(
        self, names: Collection[str], *, with_bare: bool = True, is_single: bool = False
    ) -> None:
        """names: of the tools that were offered; with none everything is text.

        with_bare: a completion that is JSON throughout may be calls. is_single: calls behind the
        first are left out.
        """
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
        found = _OPENER.search(held)
        undecided = _num_undecided(held)
        lead = held.lstrip()
        if found and found.start() < len(held) - undecided:
            self._open(parts, _OPENERS[found.group()], held[: found.start()], found.group())
            return True
        if self._may_be_bare and lead and undecided < len(lead) and lead[0] in "{[":
            self._open(parts, BARE, held[: len(held) - len(lead)], "")
            return True
        # White space before a call belongs to nothing, so it waits for what follows.
        sure = held[: len(held) - undecided].rstrip()
        self._held = held[len(sure) :]
        self._emit(parts, sure)
        return False

    def _open(self, parts: list[str | Call], format_: CallFormat, before: str, opener: str) -> None:
        text = before.rstrip()
        self._emit(parts, text)
        self._held = self._held[len(before) + len(opener) :]
        self._block = _Block(format_, self._names, before[len(text) :] + opener)
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
            self._emit(parts, block.text)
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


class _Block:
    """What follows an opener: calls, and whatever stands between them."""

    def __init__(self, format_: CallFormat, names: Collection[str], opener: str) -> None:
        """opener: as it stands in the completion, with the white space before."""
        self.format = format_
        self.calls: list[Call] = []
        self.is_over = False
        self.is_closed = False  # over because its end was written
        self.is_between = False  # behind a call
        self._names = names
        self._parts = [opener]
        self._value: list[str] = []
        self._name: str | None = None  # where it stands before the arguments
        self._scanner: CallScanner | None = None

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
        is_opener = _OPENER.match(text, at) is not None
        if not is_opener and any(_is_part(text[at:], one) for one in _OPENERS if one[0] in "{["):
            return at
        if text[at] in "{[" and not is_opener:
            self._scanner = CallScanner(self._names if self._name is None else None)
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
        if self._name is None:
            need_arguments = self.format.is_exclusive
            found = calls_in(value, self._names, need_arguments=need_arguments)
        else:
            call = call_of(self._name, decoded(value))
            found = [call] if call is not None else []
        self._name = None
        self.calls += found
        self.is_between = bool(found)
        self.is_over = not found


def _num_undecided(text: str) -> int:
    """Return how many characters at the end may begin an opener."""
    most = min(max(map(len, _OPENERS)) - 1, len(text))
    tails = (text[-size:] for size in range(most, 0, -1))
    return next((len(tail) for tail in tails if any(_is_part(tail, one) for one in _OPENERS)), 0)


def _is_part(tail: str, opener: str) -> bool:
    return opener.startswith(tail) and opener != tail
