"""How the reference lays a model out: rows of float64 one behind the other, in any format."""

from collections.abc import Iterable
from itertools import pairwise
from math import prod

from tonnage.blocks.lower import lowered
from tonnage.core.block import PagedState, Shape
from tonnage.core.block_format import BY_NAME
from tonnage.core.kv_format import PAGE_TOKENS
from tonnage.core.mix import check_formats
from tonnage.core.model_spec import ROPE_FACTORS, ModelSpec, scale_name
from tonnage.core.placing import Cursor, place_pages, place_ropes, place_slots
from tonnage.core.plan import Buffer, Item, KvPlan, MatrixPlan, Plan, Source, VectorPlan
from tonnage.core.process_items import process_items
from tonnage.core.steps import Gated, Matmul, Norm, Step
from tonnage.core.workload import Workload

FLOAT64_BYTES = 8
FLOAT32_BYTES = 4


class ReferenceLayout:
    """No panels and no shared scratch; see `tonnage.core.layout`.

    Offsets add up what there is: numpy puts each array where it likes, and what it takes within an
    operation is no item.
    """

    weights_unit = FLOAT64_BYTES

    def plan(self, spec: ModelSpec, workload: Workload, like: Plan | None = None) -> Plan:
        """Return the plan, laid out anew each time.

        Matrices hold the values of the file, so they are stated in its formats. Raises RequestError
        for a name or format that `spec` does not take.
        """
        spec = spec.for_context(workload.context_tokens)
        check_formats(spec, workload.formats)
        steps = _steps(spec, workload)
        cursor = Cursor(FLOAT64_BYTES)
        matrices, vectors = _matrices(spec, cursor), _vectors(spec, steps, cursor)
        ropes = place_ropes(spec, cursor, FLOAT64_BYTES)
        ends = [cursor.offset]
        kv = _pages(spec, workload, cursor)
        ends.append(cursor.offset)
        slots = place_slots(spec, workload, cursor, FLOAT64_BYTES)
        ends.append(cursor.offset)
        buffers = _buffers(steps, workload.max_rows, cursor)
        return Plan(
            family=spec.family,
            vocab_size=spec.vocab_size,
            d_model=spec.d_model,
            threads=workload.threads,
            context_tokens=workload.context_tokens,
            concurrency=workload.concurrency,
            max_rows=workload.max_rows,
            max_logit_rows=workload.max_logit_rows,
            panel_rows=1,
            pass_queries=1,
            matrices=matrices,
            vectors=vectors,
            ropes=ropes,
            kv=kv,
            slots=slots,
            buffers=buffers,
            steps=steps,
            arena_bytes=cursor.offset,
            items=(*_items([0, *ends, cursor.offset], matrices), *process_items(spec, workload)),
        )

    def matrix_bytes(self, fmt: str, shape: Shape) -> int:
        """Return the bytes of its elements."""
        return FLOAT64_BYTES * prod(shape)

    def other_weight_bytes(self, spec: ModelSpec) -> int:
        """Return the bytes of vectors and angles."""
        cursor = Cursor(FLOAT64_BYTES)
        spec = spec.for_context(spec.context_length)
        _vectors(spec, (), cursor)
        place_ropes(spec, cursor, FLOAT64_BYTES)
        return cursor.offset

    def page_bytes(self, spec: ModelSpec, workload: Workload) -> int:
        """Return the bytes of all pages, whatever their format."""
        return _pages(spec, workload, Cursor(FLOAT64_BYTES)).nbytes


def _steps(spec: ModelSpec, workload: Workload) -> tuple[Step, ...]:
    """Return the forward pass over values alone: nothing is quantized."""
    rows, concurrency = workload.max_logit_rows, workload.concurrency
    return lowered(spec, lambda name: "F32", workload.kv_format, rows, concurrency)


def _matrices(spec: ModelSpec, cursor: Cursor) -> tuple[MatrixPlan, ...]:
    found = []
    for name, entry in spec.weights.items():
        if len(entry.shape) < 2:
            continue
        *stack, rows, cols = entry.shape
        nbytes = FLOAT64_BYTES * prod(entry.shape)
        found.append(
            MatrixPlan(
                name=name,
                format=entry.format.name,
                count=prod(stack),
                rows=rows,
                cols=cols,
                offset=cursor.take(nbytes),
                panel_stride=FLOAT64_BYTES * cols,
                nbytes=nbytes,
                source=Source.of(entry),
            )
        )
    return tuple(found)


def _vectors(spec: ModelSpec, steps: Iterable[Step], cursor: Cursor) -> tuple[VectorPlan, ...]:
    """Place biases and the weights of norms, to which the family's offset is added."""
    products = [step for step in steps if isinstance(step, Matmul | Gated)]
    stored = {name for step in products for name in step.vectors}
    stored |= {step.bias for step in steps if isinstance(step, Norm) and step.bias is not None}
    as_stored = {ROPE_FACTORS, *stored, *map(scale_name, spec.weights)}
    found = []
    for name, entry in spec.weights.items():
        if len(entry.shape) == 1:
            add = 0.0 if name in as_stored else spec.norm_offset
            count = entry.shape[0]
            nbytes = FLOAT64_BYTES * count
            offset = cursor.take(nbytes)
            found.append(VectorPlan(name, count, offset, nbytes, add, Source.of(entry)))
    return tuple(found)


def _pages(spec: ModelSpec, workload: Workload, cursor: Cursor) -> KvPlan:
    def part_bytes(state: PagedState) -> int:
        return FLOAT64_BYTES * PAGE_TOKENS * state.num_kv_heads * (state.k_dim + state.v_dim)

    return place_pages(spec, workload, cursor, part_bytes)


def _buffers(steps: Iterable[Step], max_rows: int, cursor: Cursor) -> tuple[Buffer, ...]:
    sizes: dict[str, int] = {}
    for area in (area for step in steps for area in step.writes):
        rows = max_rows if area.rows is None else area.rows
        nbytes = FLOAT64_BYTES * rows * area.cols
        sizes[area.buffer] = max(sizes.get(area.buffer, 0), nbytes)
    return tuple(Buffer(name, cursor.take(nbytes), nbytes) for name, nbytes in sizes.items())


def _items(ends: list[int], matrices: Iterable[MatrixPlan]) -> tuple[Item, ...]:
    """Return what the arrays take; ends: of nothing, weights, pages, slots and buffers."""
    weights, pages, slots, scratch = (end - begin for begin, end in pairwise(ends))
    states = (Item("sequence states", "state", slots),) if slots else ()
    # One matrix at a time is there as read, and as float32.
    read = (
        BY_NAME[one.source.format].nbytes((one.count, one.rows, one.cols))
        + FLOAT32_BYTES * one.count * one.rows * one.cols
        for one in matrices
    )
    return (
        Item("weights", "weight", weights),
        Item("kv pages", "kv", pages),
        *states,
        Item("step scratch", "scratch", scratch),
        Item("load buffers", "load", max(read, default=0)),
    )
