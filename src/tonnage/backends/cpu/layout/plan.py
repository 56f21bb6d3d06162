"""(ModelSpec, Workload) -> Plan: pure, deterministic, nothing but arithmetic."""

from tonnage.backends.cpu.layout.kernel_limits import require_kernels
from tonnage.backends.cpu.layout.place import (
    FLOAT_BYTES,
    HUGE_PAGE_BYTES,
    LINE_BYTES,
    WeightPlacer,
    place_kv,
    place_weights,
)
from tonnage.backends.cpu.layout.scratch import needs_of, share_bytes
from tonnage.backends.cpu.layout.sizes import (
    MAX_GROUP_HEADS,
    PANEL_ROWS,
    WORKER_SCRATCH_BYTES,
    load_staging_bytes,
)
from tonnage.blocks.lower import lowered
from tonnage.core.block_format import BY_NAME
from tonnage.core.footprint import (
    THREAD_STACK_BYTES,
)
from tonnage.core.mix import check_formats
from tonnage.core.model_spec import ModelSpec
from tonnage.core.placing import Cursor, place_ropes, place_slots
from tonnage.core.plan import Item, MatrixPlan, Plan, RopePlan, VectorPlan
from tonnage.core.process_items import process_items
from tonnage.core.record import record
from tonnage.core.steps import Step
from tonnage.core.workload import Workload


def make_plan(spec: ModelSpec, workload: Workload, like: Plan | None = None) -> Plan:
    """Return the plan of `spec` for `workload`.

    like: a plan of the same model whose workload has the same weights and steps
    (`Workload.has_steps_of`); both are taken from it, unless angles depend on the context.

    Raises UnsupportedModelError when the model's sizes have no kernel, RequestError for formats
    that it cannot take.
    """
    shared = None if spec.depends_on_context else like
    spec = spec.for_context(workload.context_tokens)
    laid = _laid(spec, workload) if shared is None else _laid_like(shared)
    cursor = Cursor(LINE_BYTES, laid.end)
    kv = place_kv(spec, workload, cursor)
    kv_end = cursor.take(0, HUGE_PAGE_BYTES)
    slots = place_slots(spec, workload, cursor, FLOAT_BYTES)
    slots_end = cursor.take(0, HUGE_PAGE_BYTES) if slots.blocks else kv_end
    buffers = share_bytes(needs_of(laid.steps, workload.max_rows), slots_end)
    end = max(b.offset + b.nbytes for b in buffers)
    return Plan(
        family=spec.family,
        vocab_size=spec.vocab_size,
        d_model=spec.d_model,
        threads=workload.threads,
        context_tokens=workload.context_tokens,
        concurrency=workload.concurrency,
        max_rows=workload.max_rows,
        max_logit_rows=workload.max_logit_rows,
        panel_rows=PANEL_ROWS,
        pass_queries=MAX_GROUP_HEADS,
        matrices=laid.matrices,
        vectors=laid.vectors,
        ropes=laid.ropes,
        kv=kv,
        slots=slots,
        buffers=buffers,
        steps=laid.steps,
        arena_bytes=end,
        items=(
            *_arena_items(laid, workload.threads, (laid.end, kv_end, slots_end, end)),
            *process_items(spec, workload),
        ),
    )


@record
class _Laid:
    """The weights where they lie, from the arena's begin to `end`, and the steps that read them."""

    steps: tuple[Step, ...]
    matrices: tuple[MatrixPlan, ...]
    vectors: tuple[VectorPlan, ...]
    ropes: tuple[RopePlan, ...]
    end: int


def _laid(spec: ModelSpec, workload: Workload) -> _Laid:
    placer = WeightPlacer(spec, formats_of(spec, workload), cursor := Cursor(LINE_BYTES))
    steps = lowered(
        spec, placer.format_of, workload.kv_format, workload.max_logit_rows, workload.concurrency
    )
    require_kernels(steps)
    place_weights(placer, steps)
    ropes = place_ropes(spec, cursor, FLOAT_BYTES)
    matrices, vectors = placer.matrices.values(), placer.vectors.values()
    return _Laid(steps, tuple(matrices), tuple(vectors), ropes, cursor.take(0, HUGE_PAGE_BYTES))


def _laid_like(plan: Plan) -> _Laid:
    end = next(item.planned_bytes for item in plan.items if item.kind == "weight")
    return _Laid(plan.steps, plan.matrices, plan.vectors, plan.ropes, end)


def formats_of(spec: ModelSpec, workload: Workload) -> dict[str, str]:
    """Return the matrices that are not loaded in their own format, and what each becomes.

    Raises RequestError for a name or format that `spec` does not take.
    """
    check_formats(spec, workload.formats)
    return {name: fmt for name, fmt in workload.formats if fmt != spec.weights[name].format.name}


def _arena_items(laid: _Laid, threads: int, ends: tuple[int, int, int, int]) -> tuple[Item, ...]:
    """Return what the device takes; ends: of weights, pages, slots and scratch in the arena."""
    weights_end, kv_end, slots_end, arena_end = ends
    slots = (Item("sequence states", "state", slots_end - kv_end),) if slots_end > kv_end else ()
    return (
        Item("weights", "weight", weights_end),
        Item("kv pages", "kv", kv_end - weights_end),
        *slots,
        Item("step scratch", "scratch", arena_end - slots_end),
        Item("thread scratch", "host", threads * (WORKER_SCRATCH_BYTES + THREAD_STACK_BYTES)),
        Item("load buffers", "load", _load_bytes(laid, threads)),
    )


def _load_bytes(laid: _Laid, threads: int) -> int:
    """Return the most that loading one matrix takes: staging per thread, and what they copy."""
    most = 0
    for matrix in laid.matrices:
        source, target = BY_NAME[matrix.source.format], BY_NAME[matrix.format]
        most = max(most, load_staging_bytes(source, target, matrix.cols))
    # Every vector is held as read and as float32 before it is written.
    return (threads + 1) * most + 2 * sum(v.nbytes for v in laid.vectors)
