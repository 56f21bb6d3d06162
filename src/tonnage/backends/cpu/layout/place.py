"""Placing weights in execution order, KV pages after them, scratch last."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import prod

from tonnage.backends.cpu.layout.sizes import PANEL_ROWS, kv_head_bytes, panel_bytes
from tonnage.core.block import PagedState, SlotState
from tonnage.core.block_format import BY_NAME
from tonnage.core.checkpoint import TensorEntry
from tonnage.core.kv_format import PAGE_TOKENS
from tonnage.core.model_spec import ModelSpec
from tonnage.core.plan import (
    KvGroupPlan,
    KvLayerPlan,
    KvPlan,
    MatrixPlan,
    RopePlan,
    SlotBlockPlan,
    SlotPlan,
    Source,
    VectorPlan,
)
from tonnage.core.rounding import round_up
from tonnage.core.steps import Embed, Gated, Matmul, Step
from tonnage.core.workload import Workload

LINE_BYTES = 64
HUGE_PAGE_BYTES = 2 << 20
ROPE_FACTORS = "rope_factors"


def source_of(entry: TensorEntry) -> Source:
    """Return where the tensor lies, as the plan states it."""
    return Source(entry.file, entry.offset, entry.format.name)


@dataclass
class Cursor:
    """The next free byte of the arena while it is laid out."""

    offset: int = 0

    def take(self, num_bytes: int, align: int = LINE_BYTES) -> int:
        """Return the offset of `num_bytes` fresh bytes."""
        start = round_up(self.offset, align)
        self.offset = start + num_bytes
        return start


@dataclass
class WeightPlacer:
    """Lays weights one after another; `formats` maps a canonical name to the format it becomes."""

    spec: ModelSpec
    formats: dict[str, str]
    cursor: Cursor
    matrices: dict[str, MatrixPlan] = field(default_factory=dict)
    vectors: dict[str, VectorPlan] = field(default_factory=dict)

    def format_of(self, name: str) -> str:
        """Return the format that a matrix has in the arena."""
        return self.formats.get(name, self.spec.weights[name].format.name)

    def matrix(self, name: str) -> None:
        """Place one matrix, or a stack of them, panel after panel."""
        panel = self._panel_bytes(name)
        panels = self._panels(name)
        self._add(name, self.cursor.take(panel * panels), panel, panel * panels)

    def interleaved(self, first: str, second: str) -> None:
        """Place two matrices of equal rows with alternating panels: one sweep reads both."""
        a, b = self._panel_bytes(first), self._panel_bytes(second)
        panels = self._panels(first)
        base = self.cursor.take((a + b) * panels)
        self._add(first, base, a + b, a * panels)
        self._add(second, base + a, a + b, b * panels)

    def vector(self, name: str, add: float = 0.0) -> None:
        """Place a vector as float32, padded to whole panels; one that is there already stays."""
        if name in self.vectors:
            return
        entry = self.spec.weights[name]
        count = entry.shape[0]
        nbytes = 4 * round_up(count, PANEL_ROWS)
        offset = self.cursor.take(nbytes)
        self.vectors[name] = VectorPlan(name, count, offset, nbytes, add, source_of(entry))

    def _panel_bytes(self, name: str) -> int:
        return panel_bytes(BY_NAME[self.format_of(name)], self.spec.weights[name].shape[-1])

    def _panels(self, name: str) -> int:
        *stack, rows, _ = self.spec.weights[name].shape
        return prod(stack) * (round_up(rows, PANEL_ROWS) // PANEL_ROWS)

    def _add(self, name: str, offset: int, stride: int, nbytes: int) -> None:
        entry = self.spec.weights[name]
        *stack, rows, cols = entry.shape
        self.matrices[name] = MatrixPlan(
            name=name,
            format=self.format_of(name),
            count=prod(stack),
            rows=rows,
            cols=cols,
            offset=offset,
            panel_stride=stride,
            nbytes=nbytes,
            source=source_of(entry),
        )


def place_weights(placer: WeightPlacer, steps: Iterable[Step]) -> None:
    """Place every weight in the order in which `steps` read it.

    A table that is looked up and multiplied with lies where it is multiplied with.
    """
    steps = tuple(steps)
    multiplied = {name for step in steps for name in step.weights}
    for step in steps:
        match step:
            case Embed():
                if step.table not in multiplied:
                    placer.matrix(step.table)
                if ROPE_FACTORS in placer.spec.weights:
                    placer.vector(ROPE_FACTORS)
            case Gated():
                placer.interleaved(step.gate, step.up)
            case Matmul():
                for part in step.parts:
                    placer.matrix(part.weight)
                    if part.bias is not None:
                        placer.vector(part.bias)
            case _:
                for name in step.vectors:
                    placer.vector(name, placer.spec.norm_offset)


def place_ropes(spec: ModelSpec, cursor: Cursor) -> tuple[RopePlan, ...]:
    """Place the angles of every rotary embedding."""
    ropes = []
    for i, rope in enumerate(spec.ropes):
        frequencies = rope.inverse_frequencies()
        factors = ROPE_FACTORS if i == 0 and ROPE_FACTORS in spec.weights else None
        ropes.append(RopePlan(frequencies, cursor.take(4 * len(frequencies)), factors))
    return tuple(ropes)


def place_kv(spec: ModelSpec, workload: Workload, cursor: Cursor) -> KvPlan:
    """Place a pool of pages for each window, the one of layers that see everything first.

    A page holds all layers of its group, so that memory is touched as tokens come. The first group
    may have no layer; its pages then take no bytes.
    """
    states = [b.block.state for _, b in spec.branches if isinstance(b.block.state, PagedState)]
    windows = [workload.kept_window(state.window) for state in states]
    parts = [
        kv_head_bytes(state.k_dim, state.v_dim, workload.kv_format) * state.num_kv_heads
        for state in states
    ]
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


def place_slots(spec: ModelSpec, num_slots: int, num_snapshots: int, cursor: Cursor) -> SlotPlan:
    """Place what sequences keep beside pages: a slot each, and snapshots of slots.

    Slots and snapshots lie one behind the other; all of them hold all blocks' states.
    """
    states = [b.block.state for _, b in spec.branches if isinstance(b.block.state, SlotState)]
    if not states:
        return SlotPlan(0, 0, 0, cursor.offset, ())
    inside = Cursor()
    blocks = tuple(SlotBlockPlan(inside.take(4 * s.elements), s.elements) for s in states)
    stride = round_up(inside.offset, LINE_BYTES)
    offset = cursor.take(stride * (num_slots + num_snapshots))
    return SlotPlan(num_slots, num_snapshots, stride, offset, blocks)
