"""State that a sequence has once, not per token: recurrent state, the tail of a convolution.

It stands for all tokens so far, so it can neither be cut nor shared. Slots hold the states of
running sequences. Snapshots are copies that the prefix tree keeps at nodes: a prompt goes on from
one of them. Both are planned bytes; what snapshots take never grows.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from tonnage.kvcache.pages import LOST
from tonnage.kvcache.prefix_node import Node


class StateBytes(Protocol):
    """What moves the bytes of states. Places 0..num_slots-1 are slots, those behind are snapshots.

    A step over rows of a sequence takes the state from its slot and leaves that after the last row
    there. Rows that begin at position 0 begin with an empty state, whatever the slot holds.
    """

    def copy_state(self, source: int, target: int) -> None:
        """Copy the state of a place to another place, at once."""

    def read_state(self, place: int) -> bytes:
        """Return the bytes of a state."""

    def write_state(self, place: int, data: bytes) -> None:
        """Replace the bytes of a state."""


class StatePool:
    """The slots, and the snapshots: free, kept at a node of the prefix tree, or held for a step.

    No snapshot is in use for longer than a copy takes, so any that is kept may give way: the one
    that was used least recently does.
    """

    def __init__(self, num_slots: int, num_snapshots: int, mover: StateBytes) -> None:
        """num_slots: at least as many as sequences run at once. mover: moves their states."""
        self.num_slots = num_slots
        self.num_snapshots = num_snapshots
        self.before_eviction: Callable[[Node], None] | None = None
        self._mover = mover
        self._free = list(range(num_slots + num_snapshots - 1, num_slots - 1, -1))
        self._kept: OrderedDict[int, Node] = OrderedDict()  # the least recently used first

    def keep(self, node: Node, slot: int) -> None:
        """Keep a snapshot of the state in `slot` at `node`, whose last token it stands behind."""
        if node.snapshot == LOST:
            place = self.take()
            if place is None:
                return
            self._mover.copy_state(slot, place)
            self.enter(node, place)
        self._kept.move_to_end(node.snapshot)

    def restore(self, node: Node, slot: int) -> None:
        """Bring the snapshot of `node` into `slot`."""
        self._mover.copy_state(node.snapshot, slot)
        self._kept.move_to_end(node.snapshot)

    def enter(self, node: Node, place: int) -> None:
        """Let `node`, which has none, keep what was written to `place`, which was taken."""
        node.snapshot = place
        self._kept[place] = node

    def leave(self, node: Node) -> None:
        """Take the snapshot from a node that has one."""
        del self._kept[node.snapshot]
        self._free.append(node.snapshot)
        node.snapshot = LOST

    def take(self) -> int | None:
        """Return a place for a snapshot, None when all are held; to be entered or dropped."""
        if not self._free:
            if not self._kept:
                return None
            oldest = next(iter(self._kept.values()))
            if self.before_eviction is not None:
                self.before_eviction(oldest)
            self.leave(oldest)
        return self._free.pop()

    def drop(self, place: int) -> None:
        """Give back a place that was taken and not entered."""
        self._free.append(place)

    def hold(self, slot: int) -> int | None:
        """Copy a slot's state before a step that may be thrown away; None when no place is left."""
        place = self.take()
        if place is not None:
            self._mover.copy_state(slot, place)
        return place

    def roll_back(self, place: int, slot: int) -> None:
        """Bring back what `hold` has copied."""
        self._mover.copy_state(place, slot)

    def check(self) -> None:
        """Assert what must hold between two steps; for tests."""
        assert all(node.alive and node.snapshot == place for place, node in self._kept.items())
        everywhere = sorted([*self._free, *self._kept])
        assert everywhere == list(range(self.num_slots, self.num_slots + self.num_snapshots))
