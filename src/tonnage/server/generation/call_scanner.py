"""Follows a JSON value as it is generated, for as long as it may become calls."""

import json
from collections.abc import Collection
from enum import Enum

from tonnage.server.generation.call_formats import MEMBERS


class Verdict(Enum):
    """What is known of a value: it may go on, it has ended, or it is no call."""

    OPEN = 0
    ENDED = 1
    NO_CALL = 2


class CallScanner:
    """Takes the characters of one value; most of what is no call shows in its first member.

    The value's grammar is not checked: that is left to the decoder, once its last bracket is there.
    """

    def __init__(self, names: Collection[str] | None) -> None:
        """names: functions that may be called; None where the value is a call's arguments."""
        self._names = names
        self._depth = 0
        self._own_depth = 1  # of a call's members
        self._in_string = False
        self._escaped = False
        self._string: list[str] = []
        self._key: str | None = None
        self._is_value = False  # a colon stands before

    def take(self, char: str) -> Verdict:
        """Take the next character; after the first verdict that is final no more is to come."""
        if self._in_string:
            return self._inside(char)
        if char == '"':
            self._in_string, self._string = True, []
            return Verdict.OPEN if self._depth >= self._own_depth else Verdict.NO_CALL
        if char in "{[":
            return self._opened(char)
        if char in "}]":
            self._depth -= 1
            return Verdict.OPEN if self._depth > 0 else Verdict.ENDED
        if char.isspace():
            return Verdict.OPEN
        return self._between(char)

    def _opened(self, char: str) -> Verdict:
        if self._depth == 0 and char == "[" and self._names is not None:
            self._own_depth = 2
        elif self._depth < self._own_depth:
            if char == "[":
                return Verdict.NO_CALL
        elif self._is_own and not self._may_be_value:
            return Verdict.NO_CALL
        self._depth += 1
        if self._is_own:
            self._key, self._is_value = None, False
        return Verdict.OPEN

    def _inside(self, char: str) -> Verdict:
        if self._escaped or char != '"':
            self._escaped = char == "\\" and not self._escaped
            if self._is_own:
                self._string.append(char)
            return Verdict.OPEN
        self._in_string = False
        return self._said() if self._is_own and self._names is not None else Verdict.OPEN

    def _said(self) -> Verdict:
        """Take the end of a string among a call's members."""
        try:
            text = json.loads(f'"{"".join(self._string)}"')
        except ValueError:
            return Verdict.NO_CALL
        assert self._names is not None
        if not self._is_value:
            self._key = text
            return Verdict.OPEN if text in MEMBERS else Verdict.NO_CALL
        is_wrong = self._key == "name" and text not in self._names
        return Verdict.NO_CALL if is_wrong else Verdict.OPEN

    def _between(self, char: str) -> Verdict:
        if self._depth < self._own_depth:
            return Verdict.OPEN if char == "," and self._depth else Verdict.NO_CALL
        if self._is_own:
            if char in ":,":
                self._is_value = char == ":"
            elif not self._may_be_value:
                return Verdict.NO_CALL
        return Verdict.OPEN

    @property
    def _is_own(self) -> bool:
        """Whether what comes is a member of a call."""
        return self._depth == self._own_depth

    @property
    def _may_be_value(self) -> bool:
        """Whether something that is no string may stand here."""
        return self._names is None or (self._is_value and self._key != "name")
