"""The native kernels as functions of arrays: each builds a program of one op and runs it.

A team is an Executor: instruction set and threads. R rows of activations are float32 (R, cols), or
`Activations` where the weight is quantized. `oracles` holds the oracle of each.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kernel_ops.arena import Activations, Floats, KernelArena, Matrix, Pooled
from tonnage._native import Executor
from tonnage.core.block_format import BlockFormat


def quantize(team: Executor, x: Floats) -> Activations:
    """Return x (R, cols) as int8 codes with one scale per 32."""
    arena = KernelArena(team, max_rows=len(x))
    out = arena.acts_space(x.shape[1], codes=True, values=False)
    arena.program.quantize(x=arena.place(x), out=out)
    arena.run(len(x))
    return arena.read_acts(out, len(x))


def embed(
    team: Executor, table: Matrix, tokens: Sequence[int], *, scale: float = 1.0,
    target: BlockFormat | None = None, positions: Matrix | None = None,
) -> Floats:  # fmt: skip
    """Return scale * table[tokens]; target: the format that the table becomes while loading.

    positions: a table of which row i is added to token i.
    """
    rows, cols = table.shape
    arena = KernelArena(team, max_rows=len(tokens), vocab_size=rows)
    x = arena.space(4 * len(tokens) * cols)
    at = None if positions is None else arena.matrix(positions)
    arena.program.embed(table=arena.matrix(table, target), scale=scale, x=x, positions=at)
    arena.run(len(tokens), tokens=tokens)
    return arena.floats(x, (len(tokens), cols))


def packed_rows(team: Executor, matrix: Matrix, target: BlockFormat | None = None) -> Floats:
    """Return all rows of a matrix as its panels hold them."""
    ids = list(range(matrix.shape[0]))
    parts = [embed(team, matrix, ids[i : i + 512], target=target) for i in range(0, len(ids), 512)]
    return np.concatenate(parts)


@dataclass(frozen=True, slots=True)
class Epilogue:
    """What follows a product: bias per weight row, a scale, residual (R, rows), then a soft cap."""

    bias: Floats | None = None
    residual: Floats | None = None
    cap: float = 0.0
    scale: float = 1.0


def matmul(
    team: Executor, parts: Sequence[Matrix], x: Activations | Floats,
    epilogue: Epilogue | None = None,
) -> Floats:  # fmt: skip
    """Return x · weightᵀ of up to three matrices side by side, (R, sum of their rows)."""
    epilogue = epilogue or Epilogue()
    num_rows = len(x if isinstance(x, np.ndarray) else x.codes)
    arena = KernelArena(team, max_rows=num_rows)
    width = sum(part.shape[0] for part in parts)
    out = arena.place(epilogue.residual)
    if epilogue.residual is None:
        out = arena.space(4 * num_rows * width)
    arena.program.matmul(
        parts=_parts(arena, parts, epilogue.bias), input=arena.acts(x), out=out, out_stride=width,
        out_rows=num_rows, cap=epilogue.cap, accumulate=epilogue.residual is not None, gather=False,
        scale=epilogue.scale,
    )  # fmt: skip
    arena.run(num_rows)
    return arena.floats(out, (num_rows, width))


def _parts(
    arena: KernelArena, matrices: Sequence[Matrix], bias: Floats | None
) -> list[tuple[tuple[int, int, int, int, int], int, int]]:
    parts = []
    column = 0
    for matrix in matrices:
        end = column + matrix.shape[0]
        own = None if bias is None else bias[column:end]
        parts.append((arena.matrix(matrix), arena.vector(own), column))
        column = end
    return parts


def gated(
    team: Executor,
    gate: Matrix,
    up: Matrix | None,
    x: Activations | Floats,
    activation: str,
    biases: tuple[Floats, Floats | None] | None = None,
) -> tuple[Floats, Activations]:
    """Return act(gate · x) * (up · x), plain and quantized; biases: added to the two products.

    Without `up` the first factor alone. activation: silu, gelu_tanh, gelu or relu2.
    """
    num_rows = len(x if isinstance(x, np.ndarray) else x.codes)
    arena = KernelArena(team, max_rows=num_rows)
    out = arena.acts_space(gate.shape[0], codes=True, values=True)
    at = (-1, -1) if biases is None else tuple(map(arena.place, biases))
    arena.program.gated(
        gate=arena.matrix(gate), up=None if up is None else arena.matrix(up),
        input=arena.acts(x), out=out,
        activation=activation, gate_bias=at[0], up_bias=at[1],
    )  # fmt: skip
    arena.run(num_rows)
    return arena.floats(out[1], (num_rows, gate.shape[0])), arena.read_acts(out, num_rows)


@dataclass(frozen=True, slots=True)
class Normed:
    """x after the addition, and its norm in both forms (of the gathered rows, where some were)."""

    x: Floats
    values: Floats
    acts: Activations


def norm(
    team: Executor, x: Floats, weight: Floats | None, eps: float, *,
    added: tuple[Floats, Floats] | None = None, gather: Sequence[int] | None = None,
    centred: bool = False, bias: Floats | None = None,
) -> Normed:  # fmt: skip
    """Return rmsnorm(x) * weight, or x; added: (branch, weight), whose norm is first added to x.

    centred: layernorm(x) * weight + bias.
    """
    branch, branch_weight = added or (None, None)
    arena = KernelArena(team, max_rows=len(x))
    at = arena.place(x)
    out = arena.acts_space(x.shape[1], codes=True, values=True)
    arena.program.norm(
        x=at, weight=arena.place(weight), added=arena.place(branch),
        added_weight=arena.place(branch_weight), eps=eps, out=out, gather=gather is not None,
        centred=centred, bias=arena.place(bias),
    )  # fmt: skip
    arena.run(len(x), logit_rows=gather or ())
    rows = len(x) if gather is None else len(gather)
    values = arena.floats(out[1], (rows, x.shape[1]))
    return Normed(arena.floats(at, x.shape), values, arena.read_acts(out, rows))


def pool_hidden(
    team: Executor, x: Floats, weight: Floats, eps: float, pooled: Sequence[Pooled],
    sums: npt.NDArray[np.float64], *, added: tuple[Floats, Floats] | None = None,
    centred: bool = False, bias: Floats | None = None,
) -> npt.NDArray[np.float64]:  # fmt: skip
    """Return `sums` (slots, cols) with the norm of the pooled rows added; centred: see `norm`."""
    branch, branch_weight = added or (None, None)
    slots, cols = sums.shape
    arena = KernelArena(team, max_rows=len(x))
    at = arena.place(sums)
    arena.program.pool_hidden(
        x=arena.place(x), weight=arena.place(weight), added=arena.place(branch),
        added_weight=arena.place(branch_weight), eps=eps, cols=cols, sums=at, slots=slots,
        centred=centred, bias=arena.place(bias),
    )  # fmt: skip
    arena.run(len(x), pooled=pooled)
    return np.frombuffer(arena.memory.read(at, sums.nbytes)).reshape(sums.shape)
