"""Placing weights in execution order, and pages of KV after them."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import prod

from tonnage.backends.cpu.layout.sizes import PANEL_ROWS, kv_head_bytes, panel_bytes
from tonnage.core.block import PagedState
from tonnage.core.block_format import BY_NAME
from tonnage.core.model_spec import ROPE_FACTORS, ModelSpec, scale_name
from tonnage.core.placing import Cursor, place_pages
from tonnage.core.plan import (
    KvPlan,
    MatrixPlan,
    Source,
    VectorPlan,
)
from tonnage.core.rounding import round_up
from tonnage.core.steps import Embed, Gated, Matmul, Norm, PoolHidden, Step
from tonnage.core.workload import Workload

FLOAT_BYTES = 4
LINE_BYTES = 64
HUGE_PAGE_BYTES = 2 << 20


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
        nbytes = FLOAT_BYTES * round_up(count, PANEL_ROWS)
        offset = self.cursor.take(nbytes)
        self.vectors[name] = VectorPlan(name, count, offset, nbytes, add, Source.of(entry))

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
            source=Source.of(entry),
        )
        if scale_name(name) in self.spec.weights:
            self.vector(scale_name(name))


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
                if step.positions is not None:
                    placer.matrix(step.positions)
                if ROPE_FACTORS in placer.spec.weights:
                    placer.vector(ROPE_FACTORS)
            case Gated():
                if step.up is None:
                    placer.matrix(step.gate)
                else:
                    placer.interleaved(step.gate, step.up)
                for name in step.vectors:
                    placer.vector(name)
            case Matmul():
                for part in step.parts:
                    placer.matrix(part.weight)
                    if part.bias is not None:
                        placer.vector(part.bias)
            case _:
                if isinstance(step, Norm | PoolHidden) and step.bias is not None:
                    placer.vector(step.bias)
                for name in step.vectors:
                    placer.vector(name, placer.spec.norm_offset)


def place_kv(spec: ModelSpec, workload: Workload, cursor: Cursor) -> KvPlan:
    """Place the pools of pages in the workload's format."""

    def part_bytes(state: PagedState) -> int:
        each = kv_head_bytes(state.k_dim, state.v_dim, workload.kv_format)
        return each * state.num_kv_heads

    return place_pages(spec, workload, cursor, part_bytes)
