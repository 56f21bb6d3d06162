"""The typed steps of a plan as a native program: names become offsets in the arena."""

from collections.abc import Sequence
from typing import assert_never

from tonnage._native import Arena, Program
from tonnage.backends.cpu.loading import WeightArgs, weight_args
from tonnage.core.operands import Activations, Heads
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

NOWHERE = -1
KvArgs = tuple[int, int, int, int, int, str, int]


def build_program(plan: Plan, arena: Arena, steps: Sequence[Step] | None = None) -> Program:
    """Return the native program over `arena` of the plan's steps, or of some of them."""
    groups = [(group.num_pages, group.window) for group in plan.kv.groups]
    program = Program(arena, plan.vocab_size, groups, plan.max_rows)
    builder = _Builder(plan, program)
    for step in plan.steps if steps is None else steps:
        builder.add(step)
    return program


class _Builder:
    def __init__(self, plan: Plan, program: Program) -> None:
        self._plan = plan
        self._program = program
        self._weights = {matrix.name: weight_args(matrix) for matrix in plan.matrices}
        self._vectors = {vector.name: vector.offset for vector in plan.vectors}
        self._buffers = {buffer.name: buffer.offset for buffer in plan.buffers}

    def add(self, step: Step) -> None:
        """Append one step."""
        match step:
            case Embed():
                self._embed(step)
            case RopeTable():
                self._rope_table(step)
            case Norm():
                self._norm(step)
            case Matmul():
                self._matmul(step)
            case Gated():
                self._gated(step)
            case QkNorm():
                self._qk_norm(step)
            case RopeKvWrite():
                self._rope_kv_write(step)
            case GatherLast():
                self._gather_last(step)
            case Attend():
                self._attend(step)
            case Quantize():
                self._quantize(step)
            case PoolHidden():
                self._pool_hidden(step)
            case _:
                assert_never(step)

    def _buffer(self, name: str | None) -> int:
        return NOWHERE if name is None else self._buffers[name]

    def _vector(self, name: str | None) -> int:
        return NOWHERE if name is None else self._vectors[name]

    def _acts(self, acts: Activations) -> tuple[int, int, int]:
        codes = self._buffers[acts.buffer + "_codes"] if acts.codes else NOWHERE
        values = self._buffers[acts.buffer + "_values"] if acts.values else NOWHERE
        return codes, values, acts.cols

    def _kv(self, heads: Heads) -> KvArgs:
        kv = self._plan.kv
        layer = kv.layers[heads.layer]
        return (
            layer.offset, layer.page_stride, heads.num_kv_heads, heads.k_dim, heads.v_dim,
            kv.format, layer.group,
        )  # fmt: skip

    def _weight(self, name: str) -> WeightArgs:
        return self._weights[name]

    def _embed(self, step: Embed) -> None:
        table = self._weight(step.table)
        positions = None if step.positions is None else self._weight(step.positions)
        self._program.embed(
            table=table, scale=step.scale, x=self._buffer(step.x), positions=positions
        )

    def _rope_table(self, step: RopeTable) -> None:
        rope = self._plan.ropes[step.rope]
        self._program.rope_table(
            frequencies=rope.offset,
            pairs=step.pairs,
            scale=rope.attention_factor,
            table=self._buffer(step.table),
        )

    def _norm(self, step: Norm) -> None:
        self._program.norm(
            x=self._buffer(step.x),
            weight=self._vector(step.weight),
            added=self._buffer(step.added),
            added_weight=self._vector(step.added_weight),
            eps=step.eps,
            out=self._acts(step.out),
            gather=step.gather,
            centred=step.centred,
            bias=self._vector(step.bias),
        )

    def _matmul(self, step: Matmul) -> None:
        self._program.matmul(
            parts=[
                (self._weight(part.weight), self._vector(part.bias), part.column)
                for part in step.parts
            ],
            input=self._acts(step.input),
            out=self._buffer(step.out),
            out_stride=step.out_cols,
            out_rows=self._plan.max_rows if step.out_rows is None else step.out_rows,
            cap=step.cap,
            accumulate=step.accumulate,
            gather=step.gather,
            scale=step.scale,
        )

    def _gated(self, step: Gated) -> None:
        self._program.gated(
            gate=self._weight(step.gate),
            up=None if step.up is None else self._weight(step.up),
            input=self._acts(step.input),
            out=self._acts(step.out),
            activation=step.activation,
            gate_bias=self._vector(step.gate_bias),
            up_bias=self._vector(step.up_bias),
        )

    def _qk_norm(self, step: QkNorm) -> None:
        kv = step.kv
        self._program.qk_norm(
            qkv=self._buffer(step.qkv),
            cols=kv.cols(step.num_heads),
            q_cols=step.num_heads * kv.k_dim,
            k_cols=kv.num_kv_heads * kv.k_dim,
            q_norm=self._vector(step.q_norm),
            k_norm=self._vector(step.k_norm),
            eps=step.eps,
        )

    def _rope_kv_write(self, step: RopeKvWrite) -> None:
        self._program.rope_kv_write(
            qkv=self._buffer(step.qkv),
            num_heads=step.num_heads,
            kv=self._kv(step.kv),
            q_norm=self._vector(step.q_norm),
            k_norm=self._vector(step.k_norm),
            eps=step.eps,
            scale=step.scale,
            table=self._buffer(step.table),
            pairs=step.pairs,
            interleaved=step.interleaved,
            k_bias=self._vector(step.k_bias),
            low_from=step.low_from,
            temperature=step.temperature,
            temperature_tokens=step.temperature_tokens,
        )

    def _gather_last(self, step: GatherLast) -> None:
        (x, x_cols), (qkv, qkv_cols) = step.buffers
        self._program.gather_last(
            x=self._buffer(x),
            x_cols=x_cols,
            qkv=self._buffer(qkv),
            qkv_cols=qkv_cols,
            kept=None if step.kept is None else self._acts(step.kept),
        )

    def _attend(self, step: Attend) -> None:
        self._program.attend(
            qkv=self._buffer(step.qkv),
            num_heads=step.num_heads,
            kv=self._kv(step.kv),
            window=step.window,
            softcap=step.softcap,
            out=self._buffer(step.out),
        )

    def _quantize(self, step: Quantize) -> None:
        self._program.quantize(x=self._buffer(step.x), out=self._acts(step.out))

    def _pool_hidden(self, step: PoolHidden) -> None:
        self._program.pool_hidden(
            x=self._buffer(step.x),
            weight=self._vector(step.weight),
            added=self._buffer(step.added),
            added_weight=self._vector(step.added_weight),
            eps=step.eps,
            cols=step.cols,
            sums=self._buffer(step.sums),
            slots=step.slots,
            centred=step.centred,
            bias=self._vector(step.bias),
        )
