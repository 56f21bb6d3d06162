"""Placing what any layout has: angles, pages and slots, in whatever sizes it gives their parts."""

from collections.abc import Callable
from dataclasses import dataclass

from tonnage.core.block import PagedState, SlotState
from tonnage.core.kv_format import PAGE_TOKENS
from tonnage.core.model_spec import ROPE_FACTORS, ModelSpec
from tonnage.core.plan import (
    KvGroupPlan,
    KvLayerPlan,
    KvPlan,
    RopePlan,
    SlotBlockPlan,
    SlotPlan,
)
from tonnage.core.rounding import round_up
from tonnage.core.workload import Workload


@dataclass
class Cursor:
    """The next free byte while memory is laid out; align: what offsets are multiples of."""

    align: int
    offset: int = 0

    def take(self, num_bytes: int, align: int | None = None) -> int:
        """Return the offset of `num_bytes` fresh bytes."""
        start = round_up(self.offset, self.align if align is None else align)
        self.offset = start + num_bytes
        return start


def place_ropes(spec: ModelSpec, cursor: Cursor, element_bytes: int) -> tuple[RopePlan, ...]:
    """Place the angles of every rotary embedding."""
    ropes = []
    for i, rope in enumerate(spec.ropes):
        frequencies = rope.inverse_frequencies()
        factors = ROPE_FACTORS if i == 0 and ROPE_FACTORS in spec.weights else None
        offset = cursor.take(element_bytes * len(frequencies))
        ropes.append(RopePlan(frequencies, offset, factors, rope.attention_factor, rope.rule))
    return tuple(ropes)


def place_pages(
    spec: ModelSpec, workload: Workload, cursor: Cursor, part_bytes: Callable[[PagedState], int]
) -> KvPlan:
    """Place a pool of pages for each window, the one of layers that see everything first.

    part_bytes: of one layer's state in a page. A page holds all layers of its group, so that memory
    is touched as tokens come. The first group may have no layer; its pages then take no bytes.
    """
    states = [b.block.state for _, b in spec.branches if isinstance(b.block.state, PagedState)]
    windows = [workload.kept_window(state.window) for state in states]
    parts = [part_bytes(state) for state in states]
    groups, layers = [], dict[int, KvLayerPlan]()
    for number, window in enumerate(sorted({0, *windows})):
        members = [i for i, own in enumerate(windows) if own == window]
        stride = sum(parts[i] for i in members)
        num_pages = workload.pool_pages(window)
        offset = cursor.take(stride * num_pages)
        groups.append(KvGroupPlan(window, num_pages, stride, offset))
        for i in members:
            a = states[i]
            layers[i] = KvLayerPlan(number, offset, stride, a.num_kv_heads, a.k_dim, a.v_dim)
            offset += parts[i]
    nbytes = sum(group.nbytes for group in groups)
    in_order = tuple(layers[i] for i in range(len(states)))
    return KvPlan(workload.kv_format, PAGE_TOKENS, nbytes, tuple(groups), in_order)


def place_slots(
    spec: ModelSpec, workload: Workload, cursor: Cursor, element_bytes: int
) -> SlotPlan:
    """Place what sequences keep beside pages: a slot each, and snapshots of slots.

    Slots and snapshots lie one behind the other; all of them hold all blocks' states.
    """
    states = [b.block.state for _, b in spec.branches if isinstance(b.block.state, SlotState)]
    if not states:
        return SlotPlan(0, 0, 0, cursor.offset, ())
    inside = Cursor(cursor.align)
    blocks = tuple(
        SlotBlockPlan(inside.take(element_bytes * s.elements), s.elements) for s in states
    )
    stride = round_up(inside.offset, cursor.align)
    num_slots, num_snapshots = workload.concurrency, workload.num_snapshots
    offset = cursor.take(stride * (num_slots + num_snapshots))
    return SlotPlan(num_slots, num_snapshots, stride, offset, blocks)
