"""What an engine is doing, for those who look on: the scheduler's view and the speed of steps."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tonnage.scheduler.parts import Part

if TYPE_CHECKING:
    from tonnage.scheduler.view import View

_RECENT_NS = 3_000_000_000
_MOST_STEPS = 512


@dataclass(frozen=True, slots=True)
class Decoding:
    """The steps of the last 3 s, 512 at most, that wrote answers and read no prompt.

    tokens_per_s: of all answers together, by the time the steps took. rows: answers in a step.
    position: tokens before those that an answer's step computes. Both are means.
    """

    tokens_per_s: float
    rows: float
    position: float


@dataclass(frozen=True, slots=True)
class Activity:
    """One moment; decoding is None when nothing was written lately."""

    view: "View"
    decoding: Decoding | None


class Tempo:
    """Remembers the steps that wrote answers; a microsecond per step."""

    def __init__(self) -> None:
        """Begin with none."""
        self._steps: deque[tuple[int, int, int, int, int]] = deque(maxlen=_MOST_STEPS)

    def note(
        self,
        parts: Sequence[Part],
        drawn: Mapping[int, Sequence[int]],
        begin_ns: int,
        end_ns: int,
    ) -> None:
        """Take a step that was committed with what was drawn; drafts count where they were."""
        if parts and all(part.draws == len(part.tokens) for part in parts):
            positions = sum(part.position for part in parts)
            num_tokens = sum(map(len, drawn.values()))
            self._steps.append((end_ns, end_ns - begin_ns, num_tokens, len(parts), positions))

    def decoding(self, now_ns: int) -> Decoding | None:
        """Return what the last seconds were like."""
        recent = [step for step in self._steps if now_ns - step[0] <= _RECENT_NS]
        if not recent:
            return None
        _, times_ns, num_tokens, rows, positions = map(sum, zip(*recent, strict=True))
        return Decoding(num_tokens / max(1, times_ns) * 1e9, rows / len(recent), positions / rows)
