"""Parsed JSON to frozen values, checked against their declared types."""

import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from math import isfinite
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")
MAX_INT = 2**63 - 1


class WrongJsonError(ValueError):
    """A value that is not of the type that its place demands; the text names the place."""


def decode(kind: type[T], raw: object, where: str) -> T:
    """Return `raw` as a value of `kind`: a dataclass, tuple, plain type, union or literal of those.

    where: what to call the place in messages. Objects must have exactly the fields of their
    dataclass; numbers must be finite and fit 64 bits. Raises WrongJsonError.
    """
    found: T = _decode(kind, raw, where)
    return found


def _decode(kind: Any, raw: object, where: str) -> Any:
    origin = get_origin(kind)
    if is_dataclass(kind):
        return _object(kind, raw, where)
    if origin is tuple:
        return _items(get_args(kind), raw, where)
    if origin is Literal:
        return _one_of(get_args(kind), raw, where)
    if origin in (Union, types.UnionType):
        return _any_of(get_args(kind), raw, where)
    return _plain(kind, raw, where)


@cache
def _hints(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {one.name: hints[one.name] for one in fields(kind)}


def _object(kind: Any, raw: object, where: str) -> Any:
    hints = _hints(kind)
    if not isinstance(raw, Mapping):
        raise WrongJsonError(f"{where} is {_short(raw)}, no object")
    wrong = sorted(set(raw) ^ set(hints), key=str)
    if wrong:
        state = "is missing" if wrong[0] in hints else "is unknown"
        raise WrongJsonError(f"{where}.{str(wrong[0])[:60]} {state}")
    return kind(
        **{name: _decode(hint, raw[name], f"{where}.{name}") for name, hint in hints.items()}
    )


def _items(kinds: tuple[Any, ...], raw: object, where: str) -> tuple[Any, ...]:
    if not isinstance(raw, list):
        raise WrongJsonError(f"{where} is {_short(raw)}, no list")
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        kinds = (kinds[0],) * len(raw)
    if len(kinds) != len(raw):
        raise WrongJsonError(f"{where} has {len(raw)} items, not {len(kinds)}")
    pairs = zip(kinds, raw, strict=True)
    return tuple(_decode(kind, one, f"{where}[{i}]") for i, (kind, one) in enumerate(pairs))


def _one_of(values: tuple[object, ...], raw: object, where: str) -> object:
    if not isinstance(raw, str) or raw not in values:
        raise WrongJsonError(f"{where} is {_short(raw)}, none of {', '.join(map(str, values))}")
    return raw


def _any_of(kinds: tuple[Any, ...], raw: object, where: str) -> Any:
    if raw is None and types.NoneType in kinds:
        return None
    rest = [kind for kind in kinds if kind is not types.NoneType]
    if len(rest) == 1:
        return _decode(rest[0], raw, where)
    # Of several types that are distinguished by the name of an operation.
    name = raw.get("op") if isinstance(raw, Mapping) else None
    named = next((kind for kind in rest if getattr(kind, "op", "") == name), None)
    if named is None or not isinstance(raw, Mapping):
        raise WrongJsonError(f"{where} is {_short(raw)}, no operation that is known")
    return _decode(named, {key: value for key, value in raw.items() if key != "op"}, where)


def _plain(kind: type, raw: object, where: str) -> object:
    if kind is float and isinstance(raw, int) and not isinstance(raw, bool):
        raw = float(raw) if abs(raw) <= MAX_INT else raw
    right = type(raw) is kind
    if isinstance(raw, float):
        right = right and isfinite(raw)
    elif kind is int and right:
        right = abs(raw) <= MAX_INT  # type: ignore[arg-type]
    if not right:
        raise WrongJsonError(f"{where} is {_short(raw)}, no {kind.__name__}")
    return raw


def _short(raw: object) -> str:
    text = repr(raw) if isinstance(raw, str | int | float | None) else type(raw).__name__
    return text if len(text) <= 60 else text[:57] + "..."
