"""Scratch buffers: lifetimes inside a layer become offsets that share bytes."""

from dataclasses import dataclass

from tonnage.core.layout import round_up
from tonnage.core.plan import Buffer


@dataclass(frozen=True, slots=True)
class Need:
    """A buffer that must keep its bytes from step `first` to step `last`, both included."""

    name: str
    nbytes: int
    first: int
    last: int

    def meets(self, other: "Need") -> bool:
        """Whether both live at the same time."""
        return self.first <= other.last and other.first <= self.last


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
