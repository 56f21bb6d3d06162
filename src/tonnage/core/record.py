"""Frozen records: the standard `dataclass(frozen=True, slots=True)` at a fifth of its cost.

That one compiles six functions for every class. A command makes some 130 such classes before it
does anything, which was a sixth of the time from its start to the first token. Here `__init__` is
compiled; comparison, hash, repr and refusal are shared. All else is the standard library's own:
fields, `field`, `replace`, `asdict`, slots, inheritance.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import MISSING, Field, FrozenInstanceError
from functools import partial
from operator import attrgetter
from typing import Any, TypeVar, dataclass_transform

_T = TypeVar("_T")
_with_fields = dataclasses.dataclass(init=False, repr=False, eq=False, slots=True)


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def record(cls: type[_T]) -> type[_T]:
    """Return `cls` as a frozen class with slots; see `dataclasses.dataclass`.

    Its objects are equal if their class and fields are, and cannot be changed.
    """
    made: Any = _with_fields(cls)
    fields = dataclasses.fields(made)
    made.__init__ = _initializer(fields, with_post_init=hasattr(made, "__post_init__"))
    compared = [field.name for field in fields if field.compare]
    # A C function is no method: it is called with the object.
    made._compared = attrgetter(*compared) if compared else type
    made.__eq__, made.__hash__, made.__repr__ = _is_equal, _hash, _text
    made.__setattr__, made.__delattr__, made.__reduce__ = _refuse, _refuse, _reduce
    result: type[_T] = made
    return result


def _initializer(fields: Sequence[Field[Any]], *, with_post_init: bool) -> Any:
    """Return `__init__`, which takes the fields in their order, those with `kw_only` by name."""
    known: dict[str, Any] = {"_set": object.__setattr__, "_absent": MISSING}
    positional: list[str] = []
    by_name: list[str] = []
    lines: list[str] = []
    for field in fields:
        name = value = parameter = field.name
        if field.default_factory is not MISSING:
            known[f"_make_{name}"] = field.default_factory
            parameter = f"{name}=_absent"
            value = f"_make_{name}() if {name} is _absent else {name}"
        elif field.default is not MISSING:
            known[f"_default_{name}"] = field.default
            parameter = f"{name}=_default_{name}"
        (by_name if field.kw_only else positional).append(parameter)
        lines.append(f"_set(self, {name!r}, {value})")
    parameters = ", ".join([*positional, *(["*", *by_name] if by_name else [])])
    if with_post_init:
        lines.append("self.__post_init__()")
    exec(f"def __init__(self, {parameters}):\n " + ("\n ".join(lines) or "pass"), known)
    return known["__init__"]


def _is_equal(self: Any, other: Any) -> Any:
    if type(self) is not type(other):
        return NotImplemented
    return self._compared(self) == self._compared(other)


def _hash(self: Any) -> int:
    return hash(self._compared(self))


def _text(self: Any) -> str:
    shown = (field.name for field in dataclasses.fields(self) if field.repr)
    parts = ", ".join(f"{name}={getattr(self, name)!r}" for name in shown)
    return f"{type(self).__qualname__}({parts})"


def _refuse(self: Any, name: str, *_: object) -> None:
    raise FrozenInstanceError(f"{name} of {type(self).__qualname__} cannot be changed")


def _reduce(self: Any) -> tuple[Any, ...]:
    """Return how copies and pickles are made: by the constructor, since nothing may be set."""
    values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
    kind: Any = type(self)
    return partial(kind, **values), ()
