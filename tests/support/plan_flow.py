"""What each step of a plan reads and writes, as byte ranges."""

from collections.abc import Iterator
from dataclasses import dataclass

from tonnage.backends.cpu.layout.sizes import acts_bytes, panel_bytes
from tonnage.core.block_format import BY_NAME
from tonnage.core.kv_format import PAGE_TOKENS
from tonnage.core.operands import Activations
from tonnage.core.plan import Plan
from tonnage.core.steps import (
    Attend,
    Embed,
    Gated,
    GatherLast,
    Matmul,
    Norm,
    PoolHidden,
    QkNorm,
    Quantize,
    RopeKvWrite,
    RopeTable,
    Step,
)

Range = tuple[int, int]  # begin, end


@dataclass(frozen=True)
class Access:
    """The bytes that a step reads and writes; what it updates in place is in both."""

    op: str
    reads: tuple[Range, ...]
    writes: tuple[Range, ...]


def accesses(plan: Plan) -> list[Access]:
    """Return the accesses of all steps to scratch."""
    return [_access(step, _Scratch(plan)) for step in plan.steps]


class _Scratch:
    """Byte ranges of named scratch, by the plan's offsets and by sizes that are worked out here."""

    def __init__(self, plan: Plan) -> None:
        self.offsets = {buffer.name: buffer.offset for buffer in plan.buffers}
        self.rows, self.width = plan.max_rows, plan.d_model

    def floats(self, name: str, count: int) -> Range:
        offset = self.offsets[name]
        return (offset, offset + 4 * count)

    def x(self, name: str) -> Range:
        return self.floats(name, self.rows * self.width)

    def acts(self, acts: Activations) -> tuple[Range, ...]:
        forms = []
        if acts.codes:
            codes = self.offsets[acts.buffer + "_codes"]
            forms.append((codes, codes + acts_bytes(self.rows, acts.cols)))
        if acts.values:
            forms.append(self.floats(acts.buffer + "_values", self.rows * acts.cols))
        return tuple(forms)

    def qkv(self, step: QkNorm | RopeKvWrite | Attend) -> Range:
        kv = step.kv
        cols = (step.num_heads + kv.num_kv_heads) * kv.k_dim + kv.num_kv_heads * kv.v_dim
        return self.floats(step.qkv, self.rows * cols)

    def table(self, step: RopeTable | RopeKvWrite) -> Range:
        return self.floats(step.table, self.rows * 2 * step.pairs)


def _access(step: Step, at: _Scratch) -> Access:
    """Return what the native operation of `step` touches, as its contract in ops.h says."""
    match step:
        case Embed():
            reads, writes = (), (at.x(step.x),)
        case RopeTable():
            reads, writes = (), (at.table(step),)
        case Norm():
            x = at.x(step.x)
            reads = (x, at.x(step.added)) if step.added else (x,)
            writes = (*at.acts(step.out), *([x] if step.added else []))
        case Matmul():
            out = at.floats(step.out, (step.out_rows or at.rows) * step.out_cols)
            reads = (*at.acts(step.input), *([out] if step.accumulate else []))
            writes = (out,)
        case QkNorm():
            reads = writes = (at.qkv(step),)
        case RopeKvWrite():
            qkv = at.qkv(step)
            reads, writes = (qkv, *([at.table(step)] if step.table else [])), (qkv,)
        case GatherLast():
            kept = at.acts(step.kept) if step.kept else ()
            moved = (at.floats(name, at.rows * n) for name, n in step.buffers)
            reads = writes = (*moved, *kept)
        case Attend():
            reads = (at.qkv(step),)
            writes = (at.floats(step.out, at.rows * step.num_heads * step.kv.v_dim),)
        case Gated():
            reads, writes = at.acts(step.input), at.acts(step.out)
        case PoolHidden():
            reads = (at.x(step.x), at.x(step.added)) if step.added else (at.x(step.x),)
            writes = (at.floats(step.sums, 2 * step.slots * at.width),)
        case Quantize():
            x = at.floats(step.x, at.rows * step.out.cols)
            reads, writes = (x,), at.acts(step.out)
        case _:
            raise AssertionError(step)
    return Access(step.op, reads, writes)


def permanent(plan: Plan) -> Iterator[tuple[str, Range]]:
    """Yield the bytes of everything that stays: panels, vectors, angles, pages of each layer."""
    for matrix in plan.matrices:
        size = panel_bytes(BY_NAME[matrix.format], matrix.cols)
        for panel in range(-(-matrix.rows // 32)):
            begin = matrix.offset + panel * matrix.panel_stride
            yield matrix.name, (begin, begin + size)
    for vector in plan.vectors:
        yield vector.name, (vector.offset, vector.offset + vector.nbytes)
    for rope in plan.ropes:
        yield "angles", (rope.offset, rope.offset + 4 * len(rope.frequencies))
    for layer in plan.kv.layers:
        is_int8 = plan.kv.format == "int8"
        k_pad = -(-layer.k_dim // 16) * 16 if is_int8 else layer.k_dim
        elements = k_pad + -(-layer.v_dim // 16) * 16
        per_position = elements + 2 * 2 if is_int8 else 2 * elements
        size = PAGE_TOKENS * per_position * layer.num_heads
        for page in range(plan.kv.groups[layer.group].num_pages):
            begin = layer.offset + page * layer.page_stride
            yield "pages", (begin, begin + size)
