"""What is timed to learn the constants of the forecast: one small program per key.

A key names an operation and how it is run; tonnage.machine.rates_fit knows what follows from each.
"""

from collections.abc import Iterator
from itertools import product

from tonnage.backends.cpu.layout.sizes import panel_bytes
from tonnage.core.block_format import BY_NAME, BlockFormat
from tonnage.core.plan import KV_FORMATS
from tonnage.core.rates import GATED, MEASURED_FORMATS, PRODUCT_ROWS, rope_kv_write_kind
from tonnage.core.record import record
from tonnage.machine.microbench import WINDOW_BYTES, Case, MicrobenchArena

ROWS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128, 512)
FRESH_ROWS = (1, 2, 4, 6, 8, 12, 16, 24, 32, 64)
_FEW_ROWS = 16  # above, products wait for the multipliers, and a smaller matrix shows as much
COLS, _OUT_ROWS, _FEWER_OUT_ROWS = 1024, 4096, 1024
QUERIES = (1, 2, 3, 4, 5, 6, 7, 8, 48)
HEAD_DIMS = (64, 256)
# Positions of whole pages, so that as many are scored as are gone over.
NEAR, FAR = 64, 320
# A row that writes to pages from memory and attends them: positions, and queries that share keys.
FEW_SEEN, MANY_SEEN, SEEN_OPS, SEEN_GROUP = 80, 512, 4, 4
SEEN = ((64, FEW_SEEN), (64, MANY_SEEN), (256, FEW_SEEN))
ELEMENT_ROWS, ELEMENTS = 64, 1024
# Columns of products of which as good as only the writing is left; twice, to take the rest out.
SHORT, LONGER = 32, 64
ROPE_HEADS = (9, 3)
_ROPE_DIM, _NORMED_DIM = 64, 128  # families that norm queries and keys have larger heads
SMALL, SMALL_OPS = (640, 576), 16
EMPTY_OPS = 256
AGAIN_FORMAT, AGAIN_OPS = BY_NAME["Q8_0"], 15

Key = tuple[str | int, ...]


def rope_dim(*, normed: bool) -> int:
    """Return the size of the heads that are rotated."""
    return _NORMED_DIM if normed else _ROPE_DIM


@record
class Sizes:
    """How large programs are for `threads` threads.

    slower: matrices are so many times smaller where a pass would take long.
    """

    threads: int
    slower: int = 1

    def products(self, form: BlockFormat, rows: int) -> tuple[tuple[int, int], int]:
        """Return the shape of the matrices that a measurement multiplies, and how many they are."""
        if rows > _FEW_ROWS:
            return (max(64, _FEWER_OUT_ROWS // self.slower), COLS), 1
        out_rows = max(64, _OUT_ROWS // self.slower)
        matrix = panel_bytes(form, COLS) * (out_rows // 32)
        whole = rows <= 4 and self.slower == 1
        return (out_rows, COLS), max(1, WINDOW_BYTES // matrix) if whole else 1

    def attend(self, queries: int, dim: int) -> tuple[int, tuple[int, int]]:
        """Return (rows, heads of queries and of keys) in which so many queries share a pass."""
        group = queries if queries < 16 else 3
        kv_heads = self.threads * max(1, 1024 // (dim * group * self.threads))
        return queries // group, (group * kv_heads, kv_heads)

    @property
    def seen_heads(self) -> int:
        """Heads of keys of an attention over pages from memory."""
        return 4 * self.threads

    @property
    def again_bytes(self) -> int:
        """Bytes of matrices that are read over and over, more than a cache holds."""
        return AGAIN_OPS * panel_bytes(AGAIN_FORMAT, COLS) * (self._again_rows // 32)

    @property
    def _again_rows(self) -> int:
        return max(64, _OUT_ROWS // self.slower)

    def again(self, arena: MicrobenchArena, *, fresh: bool = False) -> Case:
        """Return the program that reads them; fresh: as many others, for comparison."""
        shape = (self._again_rows, COLS)
        return arena.products(AGAIN_FORMAT, 1, shape, AGAIN_OPS, fresh=fresh)


def cached_cases(arena: MicrobenchArena, sizes: Sizes) -> Iterator[tuple[Key, Case]]:
    """Yield what is run twice, and measured the second time."""
    for form, rows in product(MEASURED_FORMATS, ROWS):
        yield (form.name, rows), arena.products(form, rows, *sizes.products(form, rows))
    for kv_format, queries, dim in product(KV_FORMATS, QUERIES, HEAD_DIMS):
        rows, heads = sizes.attend(queries, dim)
        for seen in (NEAR, FAR):
            case = arena.attend(rows, seen - rows, heads, dim, kv_format)
            yield (kv_format, queries, dim, seen), case
    yield from _paged_cases(arena, sizes, fresh=False)
    for rows in (1, PRODUCT_ROWS):
        yield ("small", rows), arena.products(BY_NAME["Q8_0"], rows, SMALL, SMALL_OPS)
    for ops in (1, EMPTY_OPS + 1):
        yield ("empty", ops), arena.quantize(1, 32, ops)
    yield ("again",), sizes.again(arena)
    yield from _element_cases(arena)


def _paged_cases(
    arena: MicrobenchArena, sizes: Sizes, *, fresh: bool
) -> Iterator[tuple[Key, Case]]:
    heads = (SEEN_GROUP * sizes.seen_heads, sizes.seen_heads)
    for kv_format, (dim, seen) in product(KV_FORMATS, SEEN):
        case = arena.paged(seen - 1, heads, (dim, kv_format), SEEN_OPS, fresh=fresh)
        yield ("seen" if fresh else "kept", kv_format, dim, seen), case


def _element_cases(arena: MicrobenchArena) -> Iterator[tuple[Key, Case]]:
    for rows in (1, ELEMENT_ROWS):
        for cols in (SHORT, LONGER):
            shape = (ELEMENTS, cols)
            yield ("matmul", rows, cols), arena.products(BY_NAME["Q8_0"], rows, shape, 1)
            for name in GATED:
                gated = arena.gated(rows, shape, "gelu_tanh" if name == "gated gelu" else "silu")
                yield (name, rows, cols), gated
        yield ("norm", rows), arena.norm(rows, ELEMENTS)
        yield ("norm added", rows), arena.norm(rows, ELEMENTS, added=True)
        yield ("quantize", rows), arena.quantize(rows, ELEMENTS)
        yield ("rope_table", rows), arena.rope_table(rows, ELEMENTS // 16)
        for kv_format, normed in product(KV_FORMATS, (False, True)):
            name = rope_kv_write_kind(kv_format, normed=normed)
            dim = rope_dim(normed=normed)
            yield (name, rows), arena.rope_kv_write(rows, ROPE_HEADS, dim, kv_format, normed=normed)


def fresh_cases(arena: MicrobenchArena, sizes: Sizes) -> Iterator[tuple[Key, Case]]:
    """Yield what is run once, over weights and pages that no cache holds."""
    for form, rows in product(MEASURED_FORMATS, FRESH_ROWS):
        case = arena.products(form, rows, *sizes.products(form, rows), fresh=True)
        yield ("fresh", form.name, rows), case
    yield from _paged_cases(arena, sizes, fresh=True)
    yield ("anew",), sizes.again(arena, fresh=True)
    yield ("embed", ELEMENT_ROWS), arena.embed(ELEMENT_ROWS, ELEMENTS)
