"""What `/set` changes: the options of `tonnage run` about sampling, by the same names."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tonnage.core.errors import RequestError
from tonnage.core.nearest import did_you_mean
from tonnage.core.options import Described, described
from tonnage.core.sampling import SamplingOptions

# Of which a chat shows nothing.
_NOT_SHOWN = ("logprobs",)


def set_option(options: SamplingOptions, words: str) -> SamplingOptions:
    """Return `options` with what `words` say: a name, and its value or `default`.

    Raises RequestError for an unknown name and a wrong value.
    """
    name, _, value = words.replace("=", " ", 1).strip().partition(" ")
    known = {one.name: one for one in _settable()}
    name = name.removeprefix("--").replace("-", "_")
    if name not in known:
        raise RequestError(f"There is no option {name[:60]!r}{did_you_mean(name, known)}")
    return replace(options, **{name: _parsed(known[name], value.strip())})


def shown_options(options: SamplingOptions) -> Iterator[str]:
    """Yield a line for each option with its value."""
    for one in _settable():
        value = getattr(options, one.name)
        words = one.usual if value is None and one.usual else _words(value)
        yield f"  {one.name:20} {words:12} {one.option.help}"


def _settable() -> list[Described]:
    every = described(SamplingOptions)
    return [one for one in every if one.flag is not None and one.name not in _NOT_SHOWN]


def _parsed(one: Described, value: str) -> Any:
    if not value:
        raise RequestError(f"{one.name} needs a value; `default` takes back what was set.")
    if value == "default":
        return one.option.default
    if one.repeated:
        return (value,)
    try:
        return one.kind(value)
    except ValueError:
        kind = "a whole number" if one.kind is int else "a number"
        raise RequestError(f"{one.name} is {value[:60]!r}; give {kind}.") from None


def _words(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(repr, value)) or "none"
    return "not set" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
