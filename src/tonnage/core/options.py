"""What a user may state, described once.

A group of options is a TypedDict or a dataclass whose fields are `Annotated[type, Option(...)]`.
The command line, the checks of ranges and the documents read the groups through `described`, type
checkers and editors read them as they stand.
"""

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from tonnage.core.errors import RequestError
from tonnage.core.record import record


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """What is known of an option beside its name and its type.

    help: half a sentence. unit: what its value is counted in, as the command line shows it.
    default: taken when it is not stated, unless its group is a dataclass, which has its own; usual:
    words for that where the value says too little. low, high: least and greatest value. flag: on
    the command line, `--name` when empty, None in Python alone. alone: what the flag means without
    a value, empty where it needs one. former: names of earlier versions. also: flags that other
    programs have for it. counts: the command line takes 32k, too.
    """

    help: str
    unit: str = ""
    default: Any = None
    usual: str = ""
    low: float | None = None
    high: float | None = None
    flag: str | None = ""
    alone: str = ""
    former: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    counts: bool = False


@record
class Described:
    """An option with its name.

    hint: its type as it is written. kinds: the types that one value may have, kind the one that
    the command line reads; repeated: whether there may be several values. choices: all values of a
    Literal.
    """

    name: str
    hint: str
    kind: type
    kinds: tuple[type, ...]
    repeated: bool
    choices: tuple[str, ...]
    option: Option

    @property
    def flag(self) -> str | None:
        """The option on the command line, None where Python alone has it."""
        return None if self.option.flag is None else self.option.flag or as_flag(self.name)

    @property
    def usual(self) -> str:
        """Words for what holds when it is not stated, empty where nothing does."""
        default = self.option.default
        if self.option.usual or default is None or default is False or default == ():
            return self.option.usual
        return f"{default:g}" if isinstance(default, float) else str(default)

    @property
    def help(self) -> str:
        """The help, and what holds when it is not stated."""
        return f"{self.option.help} ({self.usual})" if self.usual else self.option.help

    def with_default(self, default: object) -> "Described":
        """Return the option with another default."""
        return replace(self, option=replace(self.option, default=default, usual=""))


def as_flag(name: str) -> str:
    """Return how an option is written on the command line."""
    return "--" + name.replace("_", "-")


@cache
def described(group: type) -> tuple[Described, ...]:
    """Return the options of a group in the order of its fields."""
    defaults = {field.name: field.default for field in _fields(group)}
    return tuple(
        _described(name, hint, defaults.get(name, MISSING))
        for name, hint in get_type_hints(group, include_extras=True).items()
        if get_origin(hint) is Annotated
    )


def _fields(group: type) -> tuple[Any, ...]:
    return fields(group) if is_dataclass(group) else ()


def _described(name: str, hint: Any, default: object) -> Described:
    plain, option = get_args(hint)
    if default is not MISSING:
        option = replace(option, default=default)
    args = get_args(plain)
    # What is left of `X | None`; of `tuple[X, ...]` it is X.
    many = get_origin(plain) in (tuple, list)
    choices = args if get_origin(plain) is Literal else ()
    args = tuple(type(choice) for choice in choices) or args
    kinds = [kind for kind in args if kind not in (NoneType, ...)] if args else [plain]
    kind = next((one for one in (Path, str, bool, float, int) if one in kinds), object)
    shown = plain.__name__ if isinstance(plain, type) and not args else str(plain)
    simple = not args or many or choices or get_origin(plain) in (Union, UnionType)
    types = tuple(one for one in kinds if isinstance(one, type)) if simple else ()
    return Described(name, shown.replace("pathlib.", ""), kind, types, many, choices, option)


def check_types(group: type, value_of: Callable[[str], object]) -> None:
    """Raise RequestError for the first option of a group whose value has another type.

    value_of: as of `check_ranges`. A whole number may stand for a fraction, nothing else for
    another type. Functions and mappings are not checked.
    """
    for one in described(group):
        value = value_of(one.name)
        if value is None or not one.kinds or not set(one.kinds) <= set(_TYPE_WORDS):
            continue
        values = value if one.repeated and isinstance(value, list | tuple) else [value]
        wrong = [v for v in values if not any(_is_kind(v, kind) for kind in one.kinds)]
        if wrong:
            words = " or ".join(dict.fromkeys(_TYPE_WORDS[kind] for kind in one.kinds))
            shown = f"{wrong[0]!r:.60}"
            raise RequestError(
                f"{one.name} is {shown}, of type {type(wrong[0]).__name__}; give {words}."
            )


_TYPE_WORDS: dict[type, str] = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a text",
    Path: "a path",
}


def _is_kind(value: object, kind: type) -> bool:
    if kind is Path:
        return isinstance(value, str | os.PathLike)
    if kind is bool or kind is str or isinstance(value, bool):
        return type(value) is kind or (kind is str and isinstance(value, str))
    # Numbers of other libraries have these methods, as ours do.
    return hasattr(value, "__index__") or (kind is float and hasattr(value, "__float__"))


def check_ranges(group: type, value_of: Callable[[str], object], *, flags: bool = False) -> None:
    """Raise RequestError for the first option of a group that lies outside its range.

    value_of: returns the value of an option, None where it is not stated. flags: an option is named
    as the command line writes it.
    """
    for one in described(group):
        low, high, value = one.option.low, one.option.high, value_of(one.name)
        if isinstance(value, int | float) and low is not None and high is not None:
            check_range(one.flag if flags and one.flag else one.name, value, low, high)


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Raise RequestError unless `value` lies between `low` and `high`."""
    if not low <= value <= high:
        raise RequestError(f"{name} is {value}; it must lie between {low:,} and {high:,}.")


def current(group: type, given: Mapping[str, object]) -> Any:
    """Return keyword arguments of a group under the names of today, in a dict that `group` types.

    A former name is taken with a DeprecationWarning. Raises TypeError for an unknown one,
    RequestError for a value of another type.
    """
    options = described(group)
    known = {one.name for one in options}
    former = {old: one.name for one in options for old in one.option.former}
    found: dict[str, object] = {}
    for name, value in given.items():
        if name in former:
            warnings.warn(f"{name} is called {former[name]} now", DeprecationWarning, stacklevel=3)
        elif name not in known:
            from tonnage.core.foreign_names import hint

            raise TypeError(f"There is no option {name!r}{hint(name, known)}")
        found[former.get(name, name)] = value
    check_types(group, found.get)
    return found


def filled(group: type, given: Mapping[str, object]) -> Any:
    """Return every option of a group that has a value: as given, else its default.

    Names and errors as of `current`, in a dict that `group` types.
    """
    defaults = {one.name: one.option.default for one in described(group)}
    stated = {n: v for n, v in defaults.items() if v is not None}
    return {**stated, **current(group, given)}
