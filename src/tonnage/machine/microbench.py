"""Small programs of one operation each, over memory that no cache holds, to be timed.

One arena larger than the caches is filled once and read as matrices and pages of any format: what
the values are does not matter to the time. A fresh program takes the window that was read longest
ago, so that its weights come from memory; others take the first window, which a first run caches.
"""

from tonnage import _native
from tonnage.backends.cpu.layout.sizes import panel_bytes
from tonnage.core.block_format import BY_NAME, FLOAT_FORMATS, BlockFormat
from tonnage.core.errors import ProbeError
from tonnage.core.kv_format import PAGE_TOKENS
from tonnage.core.machine import Machine
from tonnage.core.record import record
from tonnage.core.rounding import round_up
from tonnage.core.units import format_bytes

_MIB = 1 << 20
WINDOW_BYTES = 8 * _MIB
VOCAB = 32768
_LEAST_BYTES = 256 * _MIB
_SCRATCH_BYTES = 64 * _MIB
_CHUNK_BYTES = 4 * _MIB
_WEIGHTS, _VALUES = b"\x11", b"\x3c"  # neither NaN nor subnormal in any format


@record
class Case:
    """A program to run with `rows` rows of one sequence from `position` on."""

    program: _native.Program
    rows: int
    position: int = 0
    tokens: tuple[int, ...] = ()

    @property
    def token_ids(self) -> list[int]:
        """The rows' tokens, which only an embedding looks at."""
        return list(self.tokens) or [0] * self.rows


class MicrobenchArena:
    """The arena: `num_bytes` read as weights and pages, and scratch behind them."""

    def __init__(self, machine: Machine) -> None:
        """Allocate and fill it. Raises ProbeError when there is not enough memory."""
        wanted = max(_LEAST_BYTES, 8 * machine.last_level_cache_bytes)
        least = max(4 * WINDOW_BYTES, 2 * machine.last_level_cache_bytes)
        self.num_bytes = max(least, min(wanted, machine.usable_memory_bytes // 4))
        needed = self.num_bytes + _SCRATCH_BYTES
        if needed > machine.usable_memory_bytes:
            raise ProbeError(
                f"Measuring this machine needs {format_bytes(needed)} of memory, and "
                f"{format_bytes(machine.usable_memory_bytes)} may be taken; free some."
            )
        self.memory = _native.Arena(needed, huge_pages=True)
        for begin in range(0, needed, _CHUNK_BYTES):
            filling = _WEIGHTS if begin < self.num_bytes else _VALUES
            self.memory.write(begin, filling * min(_CHUNK_BYTES, needed - begin))
        self.input = self.num_bytes
        self.output = self.num_bytes + _SCRATCH_BYTES // 2
        self._next = WINDOW_BYTES

    def _window(self, num_bytes: int, *, fresh: bool = False) -> int:
        """Return the offset of `num_bytes`: of those read longest ago, or of the first window."""
        if not fresh:
            return 0
        if self._next + num_bytes > self.num_bytes:
            self._next = 2 * WINDOW_BYTES
        begin = self._next
        self._next += round_up(num_bytes, 64)
        return begin

    def _program(self, rows: int, positions: int = 0) -> _native.Program:
        num_pages = round_up(max(rows, positions), PAGE_TOKENS) // PAGE_TOKENS
        return _native.Program(self.memory, VOCAB, [(num_pages, 0)], rows)

    def _acts(self, cols: int, *, values: bool = False) -> tuple[int, int, int]:
        return (-1, self.input, cols) if values else (self.input, -1, cols)

    def products(
        self, form: BlockFormat, rows: int, shape: tuple[int, int], ops: int, *, fresh: bool = False
    ) -> Case:
        """Return `ops` products with matrices (rows out, columns) of `shape`."""
        out_rows, cols = shape
        stride = panel_bytes(form, cols)
        nbytes = stride * (out_rows // 32)
        begin = self._window(ops * nbytes, fresh=fresh)
        program = self._program(rows)
        acts = self._acts(cols, values=form.name in FLOAT_FORMATS)
        for index in range(ops):
            weight = (begin + index * nbytes, form.ggml_type, out_rows, cols, stride)
            program.matmul(
                parts=[(weight, -1, 0)], input=acts, out=self.output, out_stride=out_rows,
                out_rows=rows, cap=0.0, accumulate=False, gather=False,
            )  # fmt: skip
        return Case(program, rows)

    def gated(self, rows: int, shape: tuple[int, int], activation: str) -> Case:
        """Return one gated product with matrices (rows out, columns) of `shape`."""
        hidden, cols = shape
        form = BY_NAME["Q8_0"]
        stride = panel_bytes(form, cols)
        nbytes = stride * (hidden // 32)
        begin = self._window(2 * nbytes)
        program = self._program(rows)
        gate, up = ((begin + at, form.ggml_type, hidden, cols, stride) for at in (0, nbytes))
        out = (self.output, -1, hidden)
        program.gated(gate=gate, up=up, input=self._acts(cols), out=out, activation=activation)
        return Case(program, rows)

    def embed(self, rows: int, cols: int) -> Case:
        """Return one embedding of rows whose weights lie far apart."""
        form = BY_NAME["Q8_0"]
        stride = panel_bytes(form, cols)
        begin = self._window(stride * (VOCAB // 32), fresh=True)
        program = self._program(rows)
        program.embed(table=(begin, form.ggml_type, VOCAB, cols, stride), scale=1.0, x=self.output)
        return Case(program, rows, 0, tuple(range(0, VOCAB, VOCAB // rows))[:rows])

    def rope_table(self, rows: int, pairs: int) -> Case:
        """Return one table of the angles of `pairs` per row."""
        program = self._program(rows)
        program.rope_table(frequencies=self.input, pairs=pairs, table=self.output)
        return Case(program, rows)

    def norm(self, rows: int, cols: int, *, added: bool = False) -> Case:
        """Return one norm of rows into codes; added: a branch's own norm comes before."""
        program = self._program(rows)
        branch = self.input + _SCRATCH_BYTES // 4
        program.norm(
            x=self.input, weight=self.input, added=branch if added else -1,
            added_weight=self.input if added else -1, eps=1e-6, out=(self.output, -1, cols),
            gather=False,
        )  # fmt: skip
        return Case(program, rows)

    def quantize(self, rows: int, cols: int, ops: int = 1) -> Case:
        """Return `ops` quantizations of the same rows."""
        program = self._program(rows)
        for _ in range(ops):
            program.quantize(x=self.input, out=(self.output, -1, cols))
        return Case(program, rows)

    def rope_kv_write(
        self, rows: int, heads: tuple[int, int], dim: int, kv_format: str, *, normed: bool
    ) -> Case:
        """Return one rope with its KV write; heads: of queries, of keys and values."""
        program = self._program(rows)
        self._add_rope_kv_write(
            program, heads, self._pages(heads[1], dim, rows, kv_format), normed=normed
        )
        return Case(program, rows)

    def attend(
        self, rows: int, position: int, heads: tuple[int, int], dim: int, kv_format: str
    ) -> Case:
        """Return one attention over cached pages; heads: of queries, of keys and values."""
        program = self._program(rows, position + rows)
        self._add_attend(program, heads[0], self._pages(heads[1], dim, position + rows, kv_format))
        return Case(program, rows, position)

    def paged(
        self, position: int, heads: tuple[int, int], pages: tuple[int, str], ops: int,
        *, fresh: bool,
    ) -> Case:  # fmt: skip
        """Return `ops` times what one row does with pages: write, then read; pages: dim, format."""
        program = self._program(1, position + 1)
        for _ in range(ops):
            kv = self._pages(heads[1], pages[0], position + 1, pages[1], fresh=fresh)
            self._add_rope_kv_write(program, heads, kv, normed=False)
            self._add_attend(program, heads[0], kv)
        return Case(program, 1, position)

    def _add_rope_kv_write(
        self,
        program: _native.Program,
        heads: tuple[int, int],
        kv: "_native.KvArgs",
        *,
        normed: bool,
    ) -> None:
        norm = self.input if normed else -1
        program.rope_kv_write(
            qkv=self.output, num_heads=heads[0], kv=kv, q_norm=norm, k_norm=norm, eps=1e-6,
            scale=1.0, table=self.input, pairs=kv[3] // 2, interleaved=False,
        )  # fmt: skip

    def _add_attend(self, program: _native.Program, num_heads: int, kv: "_native.KvArgs") -> None:
        program.attend(
            qkv=self.input, num_heads=num_heads, kv=kv, window=0, softcap=0.0, out=self.output
        )

    def _pages(
        self, heads: int, dim: int, positions: int, kv_format: str, *, fresh: bool = False
    ) -> "_native.KvArgs":
        # Those of int8 with their scales are smaller than this.
        page = 2 * 2 * PAGE_TOKENS * dim * heads
        num_pages = round_up(positions, PAGE_TOKENS) // PAGE_TOKENS
        begin = self._window(page * num_pages, fresh=fresh)
        return begin, page, heads, dim, dim, kv_format, 0
