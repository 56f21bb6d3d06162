"""Calls that models write as Python does: `[weather(city="Rome"), clock()]`, or one a line.

Llama 3.2 and 4, LFM 2 and Gemma are taught so. Arguments are literals by name; nothing is run.
"""

import ast
import warnings
from collections.abc import Collection
from typing import Any

from tonnage.server.generation.call_formats import Call, call_of
from tonnage.server.generation.call_scanner import Verdict

_CLOSERS = {"(": ")", "[": "]", "{": "}"}
# What Gemma may write around a call, and before its name.
_PRINT, _MODULE = "print", "default_api."
# JSON's words, which models mix in.
_WORDS: dict[str, Any] = {"true": True, "false": False, "null": None}


class PythonScanner:
    """Takes the characters of a list of calls, or of one call without brackets.

    As with JSON, most of what is no call shows in its first name.
    """

    def __init__(self, names: Collection[str], *, in_list: bool) -> None:
        """names: functions that may be called. in_list: a bracket stands around the calls."""
        self._names = frozenset(_spellings(names))
        self._own_depth = int(in_list)  # where names of calls stand
        self._open: list[str] = []
        self._name = ""
        self._quote = ""
        self._escaped = False

    def take(self, char: str) -> Verdict:
        """Take the next character; after the first verdict that is final no more is to come."""
        if self._quote:
            is_end = char == self._quote and not self._escaped
            self._escaped = char == "\\" and not self._escaped
            self._quote = "" if is_end else self._quote
            return Verdict.OPEN
        if len(self._open) <= self._own_depth and char not in ")]}":
            return self._outside(char)
        if char in "\"'":
            self._quote = char
        elif char in _CLOSERS:
            self._open.append(_CLOSERS[char])
        elif char in ")]}":
            return self._closed(char)
        return Verdict.OPEN

    def _outside(self, char: str) -> Verdict:
        """Take what stands around calls: names, and what parts them."""
        if not self._open and self._own_depth:
            self._open.append("]")
            return Verdict.OPEN if char == "[" else Verdict.NO_CALL
        if char == "(":
            is_call = self._name in self._names
            self._name = ""
            self._open.append(")")
            return Verdict.OPEN if is_call else Verdict.NO_CALL
        if char.isspace() or (char == "," and self._own_depth):
            return Verdict.NO_CALL if self._name else Verdict.OPEN
        self._name += char
        is_begin = any(name.startswith(self._name) for name in self._names)
        return Verdict.OPEN if is_begin else Verdict.NO_CALL

    def _closed(self, char: str) -> Verdict:
        if self._name or not self._open or self._open.pop() != char:
            return Verdict.NO_CALL
        return Verdict.OPEN if self._open else Verdict.ENDED


def _spellings(names: Collection[str]) -> list[str]:
    """Return how calls may begin."""
    return [*names, *(_MODULE + name for name in names), _PRINT]


def python_calls(text: str, names: Collection[str]) -> list[Call]:
    """Return the calls of a text, empty unless all of it is calls of `names`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes that Python does not know
            tree = ast.parse(text.strip(), mode="eval").body
        nodes = tree.elts if isinstance(tree, ast.List) else [tree]
        found = [_call(node, names) for node in nodes]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    calls = [call for call in found if call is not None]
    return calls if len(calls) == len(found) else []


def _call(node: ast.expr, names: Collection[str]) -> Call | None:
    if not isinstance(node, ast.Call):
        return None
    name = ast.unparse(node.func)
    if name == _PRINT and name not in names and len(node.args) == 1 and not node.keywords:
        return _call(node.args[0], names)
    name = name if name in names else name.removeprefix(_MODULE)
    if name not in names or node.args:
        return None
    return call_of(name, {_key(one.arg): _value(one.value) for one in node.keywords})


def _key(name: str | None) -> str:
    if name is None:  # **arguments
        raise ValueError
    return name


def _value(node: ast.expr) -> Any:
    """Return what a literal is in JSON. Raises ValueError for what is none."""
    match node:
        case ast.Constant(value=None | bool() | str() | int() | float() as value):
            return value
        case ast.Name(id=word) if word in _WORDS:
            return _WORDS[word]
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            return [_value(part) for part in parts]
        case ast.Dict(keys=keys, values=values):
            return {_text(key): _value(one) for key, one in zip(keys, values, strict=True)}
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
    raise ValueError


def _text(node: ast.expr | None) -> str:
    match node:
        case ast.Constant(value=str() as text):
            return text
    raise ValueError
