"""What an engine is doing, for observers: a snapshot of the scheduler and the speed of steps."""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tonnage.core.record import record
from tonnage.scheduler.scheduled import ScheduledChunk

if TYPE_CHECKING:
    from tonnage.scheduler.snapshot import SchedulerSnapshot

_RECENT_NS = 3_000_000_000
_MOST_STEPS = 512


@record
class Decoding:
    """The steps of the last 3 s, 512 at most, with decode and no prefill.

    tokens_per_s: of all completions together, by the time the steps took. rows: completions in a
    step. position: tokens before those that a completion's step computes. Both are means.
    """

    tokens_per_s: float
    rows: float
    position: float


@record
class Activity:
    """One moment; decoding is None when nothing was decoded lately."""

    snapshot: "SchedulerSnapshot"
    decoding: Decoding | None


class ThroughputMeter:
    """Remembers the steps with decode and no prefill; takes a microsecond per step."""

    def __init__(self) -> None:
        """Begin with none."""
        self._steps: deque[tuple[int, int, int, int, int]] = deque(maxlen=_MOST_STEPS)

    def note(
        self,
        chunks: Sequence[ScheduledChunk],
        sampled: Mapping[int, Sequence[int]],
        begin_ns: int,
        end_ns: int,
    ) -> None:
        """Take a step that was committed with what was sampled; drafts count where they were."""
        if chunks and all(chunk.num_samples == len(chunk.tokens) for chunk in chunks):
            positions = sum(chunk.position for chunk in chunks)
            num_tokens = sum(map(len, sampled.values()))
            self._steps.append((end_ns, end_ns - begin_ns, num_tokens, len(chunks), positions))

    def decoding(self, now_ns: int) -> Decoding | None:
        """Return what the last seconds were like."""
        recent = [step for step in self._steps if now_ns - step[0] <= _RECENT_NS]
        if not recent:
            return None
        _, times_ns, num_tokens, rows, positions = map(sum, zip(*recent, strict=True))
        return Decoding(num_tokens / max(1, times_ns) * 1e9, rows / len(recent), positions / rows)
