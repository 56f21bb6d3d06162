"""The CPU's answers to what the planner asks."""

from math import prod

from tonnage.backends.cpu.layout.place import (
    FLOAT_BYTES,
    HUGE_PAGE_BYTES,
    LINE_BYTES,
    WeightPlacer,
    place_kv,
    place_weights,
)
from tonnage.backends.cpu.layout.plan import make_plan
from tonnage.backends.cpu.layout.sizes import PANEL_ROWS, panel_bytes
from tonnage.blocks.lower import lowered
from tonnage.core.block import Shape
from tonnage.core.block_format import BY_NAME
from tonnage.core.model_spec import ModelSpec
from tonnage.core.placing import Cursor, place_ropes
from tonnage.core.plan import KV_FORMATS, Plan
from tonnage.core.rounding import round_up
from tonnage.core.workload import Workload


class CpuLayout:
    """Weights in panels, then pages, then scratch, in one arena; see `tonnage.core.layout`."""

    weights_unit = HUGE_PAGE_BYTES

    def plan(self, spec: ModelSpec, workload: Workload, like: Plan | None = None) -> Plan:
        """Return the plan; see `make_plan`."""
        return make_plan(spec, workload, like)

    def matrix_bytes(self, fmt: str, shape: Shape) -> int:
        """Return the bytes of whole panels."""
        *stack, rows, cols = shape
        panels = prod(stack) * (round_up(rows, PANEL_ROWS) // PANEL_ROWS)
        return panels * panel_bytes(BY_NAME[fmt], cols)

    def other_weight_bytes(self, spec: ModelSpec) -> int:
        """Return what is placed beside the matrices, in the file's formats."""
        cursor = Cursor(LINE_BYTES)
        spec = spec.for_context(spec.context_length)
        placer = WeightPlacer(spec, {}, cursor)
        place_weights(placer, lowered(spec, placer.format_of, KV_FORMATS[0], 1, 1))
        place_ropes(spec, cursor, FLOAT_BYTES)
        return cursor.offset - sum(matrix.nbytes for matrix in placer.matrices.values())

    def page_bytes(self, spec: ModelSpec, workload: Workload) -> int:
        """Return the bytes of all pages up to the next huge page."""
        cursor = Cursor(LINE_BYTES)
        place_kv(spec, workload, cursor)
        return cursor.take(0, HUGE_PAGE_BYTES)
