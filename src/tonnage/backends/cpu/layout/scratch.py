"""Scratch: sizes and lifetimes follow from the steps, and become offsets that share bytes."""

from collections.abc import Sequence

from tonnage.backends.cpu.layout.sizes import acts_bytes
from tonnage.core.operands import Area
from tonnage.core.plan import Buffer
from tonnage.core.record import record
from tonnage.core.rounding import round_up
from tonnage.core.steps import Step


@record
class Need:
    """A buffer that must keep its bytes; live: bit i is set while step i needs them."""

    name: str
    nbytes: int
    live: int

    def meets(self, other: "Need") -> bool:
        """Whether both live at the same time."""
        return bool(self.live & other.live)


def area_bytes(area: Area, max_rows: int) -> int:
    """Return the bytes of an area in a step of at most `max_rows` rows."""
    rows = max_rows if area.rows is None else area.rows
    if area.form == "codes":
        return acts_bytes(rows, area.cols)
    return (8 if area.form == "float64" else 4) * rows * area.cols


def needs_of(steps: Sequence[Step], max_rows: int) -> list[Need]:
    """Return every buffer that `steps` write: its largest area, and when it must keep its bytes.

    A buffer lives from a step that fills it to the last one that reads that. What is read before it
    is filled comes from an earlier pass and lives always; what nobody reads is the caller's and
    lives to the end.
    """
    lives: dict[str, _Life] = {}
    for i, step in enumerate(steps):
        reads = step.reads
        for name in reads:
            lives.setdefault(name, _Life()).read(i)
        for area in step.writes:
            lives.setdefault(area.buffer, _Life()).write(
                i, area_bytes(area, max_rows), in_place=area.buffer in reads
            )
    return [Need(name, life.nbytes, life.live(len(steps))) for name, life in lives.items()]


class _Life:
    """Follows one buffer through the steps."""

    __slots__ = ("_always", "_filled", "_live", "_unread", "nbytes")

    def __init__(self) -> None:
        self.nbytes = 0
        self._live = 0
        self._filled: int | None = None
        self._unread = False
        self._always = False

    def read(self, step: int) -> None:
        self._unread = False
        if self._filled is None:
            self._always = True
        else:
            self._live |= _bits(self._filled, step + 1)

    def write(self, step: int, nbytes: int, *, in_place: bool) -> None:
        self.nbytes = max(self.nbytes, nbytes)
        self._live |= 1 << step
        if not in_place:
            self._filled, self._unread = step, True

    def live(self, num_steps: int) -> int:
        """Return the steps in which it must keep its bytes, as bits."""
        if self._always:
            return _bits(0, num_steps)
        return self._live | _bits(self._filled or 0, num_steps) if self._unread else self._live


def _bits(begin: int, end: int) -> int:
    return (1 << end) - (1 << begin)


def share_bytes(needs: list[Need], base: int) -> tuple[Buffer, ...]:
    """Return offsets from `base` such that buffers living together never overlap.

    Largest first into the lowest gap that is free during its whole life (Pisarchyk & Lee 2020,
    greedy by size).
    """
    placed: list[tuple[Need, Buffer]] = []
    for need in sorted(needs, key=lambda n: (-n.nbytes, n.name)):
        neighbours = sorted(
            (buffer for other, buffer in placed if other.meets(need)), key=lambda b: b.offset
        )
        offset = round_up(base, 64)
        for buffer in neighbours:
            if offset + need.nbytes <= buffer.offset:
                break
            offset = max(offset, round_up(buffer.offset + buffer.nbytes, 64))
        placed.append((need, Buffer(need.name, offset, need.nbytes)))
    return tuple(sorted((buffer for _, buffer in placed), key=lambda b: b.offset))
