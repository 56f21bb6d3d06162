"""Typed, checked look-up of configuration values, whose errors name key and value."""

import sys
from collections.abc import Callable, Collection, Mapping, Sized
from typing import Any, NoReturn, TypeGuard

from tonnage.core.errors import UnsupportedModelError

MAX_COUNT = 2**31 - 1


class Settings:
    """Configuration values of one model.

    A null is a value that is not there; an absent key has its default. prefix: put before each
    key in messages and look-ups (`llama.` in GGUF). Every look-up raises UnsupportedModelError for
    a value of the wrong kind or range.
    """

    def __init__(
        self, values: Mapping[str, object], defaults: Mapping[str, object], prefix: str = ""
    ) -> None:
        """Hold `values` and the `defaults` of absent keys (named without the prefix)."""
        self._values = values
        self._defaults = defaults
        self._prefix = prefix

    def get(self, key: str) -> object:
        """Return the value, for an absent key the default, else None."""
        return self._values.get(self._prefix + key, self._defaults.get(key))

    def refuse(self, key: str, needed: str) -> NoReturn:
        """Raise the error that says what `key` is and what it needed to be."""
        value = self.get(key)
        found = "is missing" if value is None else f"is {_short(value)}"
        raise UnsupportedModelError(
            f"The setting {self._prefix}{key} {found}; it must be {needed}."
        )

    def count(self, key: str, default: int | None = None, *, least: int = 1) -> int:
        """Return a whole number of at least `least`; `default` where there is none."""
        value = self.get(key)
        if value is None and default is not None:
            return default
        if not _is_count(value, least):
            self.refuse(key, f"a whole number from {least} to {MAX_COUNT}")
        return value

    def number(self, key: str, default: float | None = None, *, least: float = 0.0) -> float:
        """Return a finite number above 0 and at least `least`; `default` where there is none."""
        value = self.get(key)
        if value is None and default is not None:
            return default
        needed = f"a finite number of at least {least:g}" if least else "a finite number above 0"
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.refuse(key, needed)
        if not (0 < value <= sys.float_info.max and value >= least):
            self.refuse(key, needed)
        return float(value)

    def flag(self, key: str) -> bool:
        """Return a truth value; False where there is none."""
        value = self.get(key)
        if value is not None and not isinstance(value, bool):
            self.refuse(key, "true or false")
        return bool(value)

    def choice(self, key: str, allowed: Collection[str], default: str | None = None) -> str:
        """Return one of the words `allowed`; `default` where there is none."""
        value = self.get(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, str) or value not in allowed:
            self.refuse(key, "one of " + ", ".join(sorted(allowed)))
        return value

    def items(self, key: str, length: int) -> list[object]:
        """Return an array of `length` values; a lazy one is read, a single value repeated."""
        value = self.get(key)
        to_list = getattr(value, "to_list", None)
        if to_list is None and not isinstance(value, list | tuple):
            return [value] * length
        # A lazy array may be as long as its file, so it is not read before.
        if not isinstance(value, Sized) or len(value) != length:
            self.refuse(key, f"one value, or one for each of the {length} layers")
        found: Any = value if to_list is None else to_list()
        return list(found)

    def counts(self, key: str, length: int) -> tuple[int, ...]:
        """Return a count for each of `length` layers, from one value or an array."""
        values = self.items(key, length)
        counts = tuple(value for value in values if _is_count(value))
        if len(counts) != length:
            self.refuse(key, f"whole numbers from 1 to {MAX_COUNT}")
        return counts

    def table(self, key: str) -> Mapping[str, object]:
        """Return a nested table; empty where there is none."""
        value = self.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.refuse(key, "a table")
        return value

    def check_known(
        self,
        known: Collection[str],
        fixed: Mapping[str, tuple[object, ...]],
        is_off: Callable[[str, object], bool] = lambda _key, _value: False,
    ) -> None:
        """Raise UnsupportedModelError listing every setting that is not implemented.

        known: keys that are read, or change nothing, beside those with a default. fixed: keys
        with the values implemented. is_off: whether any other key and value has no effect.
        """
        wrong = []
        for full, value in self._values.items():
            key = full.removeprefix(self._prefix)
            is_config = full.startswith(self._prefix) and value is not None
            if not is_config or key in known or key in self._defaults:
                continue
            without_effect = value in fixed[key] if key in fixed else is_off(key, value)
            if not without_effect:
                wrong.append(f"{full} = {_short(value)}")
        if wrong:
            raise UnsupportedModelError(
                f"{len(wrong)} settings of the model are not implemented: {', '.join(wrong)}. "
                "Running without them may give wrong text; use a model that lacks them."
            )


def _is_count(value: object, least: int = 1) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= MAX_COUNT


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
