"""A small arena with guarded buffers, for programs of one op."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tonnage._native import Arena, Executor, Program
from tonnage.backends.cpu.layout.sizes import PANEL_ROWS, acts_bytes, panel_bytes
from tonnage.core.block_format import BlockFormat
from tonnage.core.kv_format import PAGE_TOKENS
from tonnage.core.rounding import round_up

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int8]
WeightArgs = tuple[int, int, int, int, int]
ActsArgs = tuple[int, int, int]
Pooled = tuple[int, int, int, bool]  # first row, number of rows, slot, whether the sum begins anew

# Between buffers lie bytes that are NaN as floats: what reads past an end shows in the result, what
# writes past one is found by `check_guards`.
GUARD_BYTES = 256
GUARD = b"\xff" * GUARD_BYTES
# ActBlock of native/include/tonnage/ops.h.
ACT_BLOCK = np.dtype(
    [("codes", "i1", 32), ("scale", "<f4"), ("sum", "<f4"), ("zero", "<i4"), ("zero_lo", "<i4"),
     ("zero_hi", "<i4"), ("unused", "<i4", 3)]
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Matrix:
    """A weight matrix (rows, cols) as a checkpoint stores it; scales: those beside it, if any."""

    format: BlockFormat
    data: bytes
    shape: tuple[int, int]
    scales: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Activations:
    """Quantized activations: value = scale * code; codes (rows, cols), scales (rows, cols / 32)."""

    codes: Codes
    scales: Floats

    def values(self) -> npt.NDArray[np.float64]:
        """Return what the codes stand for."""
        scales = np.repeat(self.scales.astype(np.float64), 32, axis=1)
        return self.codes.astype(np.float64) * scales


@dataclass(frozen=True, slots=True)
class Span:
    """Rows of one sequence: its pages in order, how many rows, the position of the first."""

    pages: Sequence[int]
    num_rows: int
    position: int = 0


class KernelArena:
    """Buffers in an arena of `num_bytes` (untouched bytes cost nothing) and a program over them."""

    def __init__(
        self, team: Executor, *, max_rows: int, vocab_size: int = 1, num_pages: int = 1,
        num_bytes: int = 1 << 30,
    ) -> None:  # fmt: skip
        """Make an empty program of up to `max_rows` rows."""
        self.team = team
        self.max_rows = max_rows
        self.memory = Arena(num_bytes, huge_pages=False)
        self.program = Program(self.memory, vocab_size, [(num_pages, 0)], max_rows)
        self._next = 0
        self._guards: list[int] = []
        self._add_guard()

    def space(self, num_bytes: int) -> int:
        """Return the offset of `num_bytes` zero bytes between two guards."""
        offset = round_up(self._next + GUARD_BYTES, 64)
        self._next = offset + num_bytes
        self._add_guard()
        return offset

    def _add_guard(self) -> None:
        self.memory.write(self._next, GUARD)
        self._guards.append(self._next)

    def place(self, values: npt.NDArray[np.generic] | None) -> int:
        """Return the offset of a copy of `values`, or -1 for None."""
        if values is None:
            return -1
        offset = self.space(values.nbytes)
        self.memory.write(offset, values.tobytes())
        return offset

    def vector(self, values: Floats | None) -> int:
        """Return the offset of a float32 vector, zero up to whole panels, or -1 for None."""
        if values is None:
            return -1
        return self.place(np.pad(values, (0, -len(values) % PANEL_ROWS)))

    def matrix(self, matrix: Matrix, target: BlockFormat | None = None) -> WeightArgs:
        """Load a matrix through a file, as `target` where that differs."""
        fmt = target or matrix.format
        rows, cols = matrix.shape
        stride = panel_bytes(fmt, cols)
        offset = self.space(stride * (round_up(rows, PANEL_ROWS) // PANEL_ROWS))
        args = (offset, fmt.ggml_type, rows, cols, stride)
        self.load(matrix, args)
        return args

    def load(self, matrix: Matrix, target: WeightArgs) -> None:
        """Stream the matrix's bytes from a file in memory into panels."""
        fd = os.memfd_create("matrix")
        try:
            with open(fd, "wb", closefd=False) as file:
                file.write(matrix.data)
            self.team.load_matrix(
                program=self.program, fd=fd, file_offset=0, source=matrix.format.ggml_type,
                target=target, scales=matrix.scales,
            )  # fmt: skip
        finally:
            os.close(fd)

    def acts_space(self, cols: int, *, codes: bool, values: bool) -> ActsArgs:
        """Return memory for activations in the forms asked for."""
        return (
            self.space(acts_bytes(self.max_rows, cols)) if codes else -1,
            self.space(4 * self.max_rows * cols) if values else -1,
            cols,
        )

    def acts(self, x: Activations | Floats, cols: int | None = None) -> ActsArgs:
        """Return activations placed in the one form that `x` has.

        cols: of a row, where its codes end within their last block.
        """
        if isinstance(x, np.ndarray):
            return (-1, self.place(x), x.shape[1])
        rows, whole = x.codes.shape
        args = self.acts_space(cols or whole, codes=True, values=False)
        padded = np.zeros((rows, whole // 32 + 1), ACT_BLOCK)
        padded[:, :-1] = _act_blocks(x)
        self.memory.write(args[0], padded.tobytes())
        return args

    def read_acts(self, args: ActsArgs, rows: int) -> Activations:
        """Return the quantized form of `rows` rows, after checking what follows from it.

        Codes are those of whole blocks; behind a row's end they must be zero.
        """
        offset, _, cols = args
        raw = self.memory.read(offset, acts_bytes(rows, cols))
        blocks = np.frombuffer(raw, ACT_BLOCK).reshape(rows, -1)[:, :-1]
        codes = blocks["codes"].reshape(rows, -1).copy()
        assert not codes[:, cols:].any()
        acts = Activations(codes, blocks["scale"].copy())
        used = [name for name in ACT_BLOCK.names or () if name != "unused"]
        np.testing.assert_array_equal(blocks[used], _act_blocks(acts)[used])
        return acts

    def floats(self, offset: int, shape: tuple[int, ...]) -> Floats:
        """Return a copy of float32 values in the arena."""
        raw = self.memory.read(offset, 4 * int(np.prod(shape)))
        return np.frombuffer(raw, np.float32).reshape(shape)

    def run(
        self, num_rows: int, *, tokens: Sequence[int] | None = None,
        spans: Sequence[Span] | None = None, logit_rows: Sequence[int] = (),
        pooled: Sequence[Pooled] = (),
    ) -> None:  # fmt: skip
        """Run the program, then check that nothing was written outside its buffers."""
        if spans is None:
            num_pages = round_up(num_rows, PAGE_TOKENS) // PAGE_TOKENS
            spans = [Span([0] * num_pages, num_rows)] if num_rows else []
        triples = [([list(span.pages)], span.num_rows, span.position) for span in spans]
        ids = list(tokens or [0] * num_rows)
        self.team.run(self.program, ids, triples, list(logit_rows), list(pooled))
        self.check_guards()

    def check_guards(self) -> None:
        """Raise AssertionError when bytes between two buffers have changed."""
        hit = [at for at in self._guards if self.memory.read(at, GUARD_BYTES) != GUARD]
        if hit:
            raise AssertionError(f"a kernel wrote outside its buffers, near bytes {hit}")


def _act_blocks(x: Activations) -> npt.NDArray[np.void]:
    blocks = np.zeros(x.scales.shape, ACT_BLOCK)
    blocks["codes"] = x.codes.reshape(*x.scales.shape, 32)
    halves = x.codes.reshape(*x.scales.shape, 2, 16).astype(np.int32).sum(axis=-1)
    blocks["scale"] = x.scales
    blocks["sum"] = halves.sum(axis=-1)
    blocks["zero"] = -128 * halves.sum(axis=-1)
    blocks["zero_lo"], blocks["zero_hi"] = -128 * halves[..., 0], -128 * halves[..., 1]
    return blocks
