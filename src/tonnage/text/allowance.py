"""Time and sizes that rendering a chat template may use."""

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tonnage.text.template_bounds import (
    MAX_DEPTH,
    MAX_OUTPUT_CHARS,
    MESSAGE_TIME_S,
)

_ITEM_CHARS = 16  # what an item of a container counts as
_STEP = 16  # what a step counts as, in characters
_STEPS_PER_LOOK = 4096  # the clock is read after so many characters, divided by _STEP
_RECENT = 16
_MIN_KEPT_ITEMS = 16
_Containers = (list, tuple, dict, set, frozenset)


class Exceeded(Exception):
    """A bound was exceeded; not a jinja2 error, so that no template can handle it."""


class Allowance:
    """Time and sizes of one compilation or rendering.

    Time is that of the thread, so that a busy machine stops no honest template. It is looked at
    after so much work: a step, or `_STEP` characters or one item of a value.
    """

    def __init__(self, time_limit_s: float) -> None:
        """Give each rendering this much, and a little for each of its messages."""
        self._time_limit_s = time_limit_s
        self._known: dict[int, int] = {}
        self._recent: dict[int, tuple[Any, int]] = {}
        self.restart({})

    def restart(self, variables: Mapping[str, Any]) -> None:
        """Begin anew; sizes of what `variables` hold are kept, since a template changes nothing."""
        self._known.clear()
        self._recent.clear()
        messages = variables.get("messages", ())
        self._limit_s = self._time_limit_s + MESSAGE_TIME_S * len(messages)
        self._deadline = time.thread_time() + self._limit_s
        self._unseen = 0
        for value in variables.values():
            self._learn(value, 0)

    def end(self) -> None:
        """Let go of all values."""
        self._known.clear()
        self._recent.clear()

    def spend(self, size: int = _STEP) -> None:
        """Count a step over a value of this size, and look at the clock now and then."""
        self._unseen += 1 + size // _STEP
        if self._unseen > _STEPS_PER_LOOK:
            self._unseen = 0
            if time.thread_time() > self._deadline:
                raise Exceeded(f"runs longer than {self._limit_s:g} s")

    def grow(self, size: int) -> None:
        """Count a step that makes a value of this size."""
        self.spend(size)
        if size > MAX_OUTPUT_CHARS:
            raise Exceeded(f"makes a value larger than {MAX_OUTPUT_CHARS} characters")

    def checked(self, value: Any) -> Any:
        """Return a value that was made; its size is counted, and kept for a while."""
        if isinstance(value, (str, bytes)):
            self.grow(len(value))
            return value
        size = self.measure(value)
        self.grow(size)
        self.keep(value, size)
        return value

    def keep(self, value: Any, size: int) -> None:
        """Remember the size of one of the containers that were made last."""
        if isinstance(value, _Containers) and len(value) >= _MIN_KEPT_ITEMS:
            if len(self._recent) >= _RECENT:
                del self._recent[next(iter(self._recent))]
            self._recent[id(value)] = (value, size)

    def spent(self, value: Any) -> Any:
        """Return a value that a step reads as a whole."""
        self.spend(self.measure(value))
        return value

    def sliced(self, value: Any) -> Any:
        """Return a slice; it is no larger than what it was cut from."""
        self.spend(_ITEM_CHARS * len(value) if isinstance(value, _Containers) else len(value))
        return value

    def looped(self, items: Iterable[Any]) -> Iterator[Any]:
        """Yield items, each a step."""
        for item in items:
            self.spend()
            yield item

    def joined(self, parts: tuple[Any, ...]) -> str:
        """Return the texts of all parts, one behind the other."""
        self.grow(sum(self.measure(part) for part in parts))
        return "".join(map(str, parts))

    def measure(self, value: Any, depth: int = 0) -> int:
        """Return the characters, items and digits in a value; stops soon behind the bound."""
        if isinstance(value, (str, bytes)):
            return len(value)
        if isinstance(value, int):
            return 1 + value.bit_length() // 3
        if not isinstance(value, _Containers):
            return 1
        known = self._known.get(id(value))
        if known is not None:
            return known
        recent = self._recent.get(id(value))
        return recent[1] if recent else self._walked(value, depth)

    def _walked(self, value: Any, depth: int) -> int:
        if depth > MAX_DEPTH:
            raise Exceeded(f"nests values deeper than {MAX_DEPTH}")
        total = len(value) * _ITEM_CHARS
        for part in value.items() if isinstance(value, dict) else value:
            total += self.measure(part, depth + 1)
            if total > MAX_OUTPUT_CHARS:
                break
        return total

    def _learn(self, value: Any, depth: int) -> None:
        """Keep the sizes of all lists and objects in a value."""
        if isinstance(value, (list, tuple, dict)) and depth <= MAX_DEPTH:
            for part in value.values() if isinstance(value, dict) else value:
                self._learn(part, depth + 1)
            self._known[id(value)] = self._walked(value, depth)
