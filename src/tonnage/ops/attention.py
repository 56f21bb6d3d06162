"""The native kernels of attention as functions of arrays, and the KV page layout in numpy."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tonnage._native import Executor
from tonnage.core.layout import PAGE_TOKENS, round_up
from tonnage.ops.bench import Bench, Floats, Span

Halves = npt.NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class Heads:
    """Query heads over fewer key/value heads, and the sizes of a head's K and V."""

    num_heads: int
    num_kv_heads: int
    k_dim: int
    v_dim: int

    @property
    def qkv_cols(self) -> int:
        """Columns of queries, keys and values side by side."""
        return (self.num_heads + self.num_kv_heads) * self.k_dim + self.num_kv_heads * self.v_dim

    @property
    def page_bytes(self) -> int:
        """Bytes of a page of all heads."""
        return 2 * PAGE_TOKENS * self.num_kv_heads * (self.k_dim + round_up(self.v_dim, 16))

    def split(self, qkv: Floats) -> tuple[Floats, Floats, Floats]:
        """Return q (R, heads, k_dim), k (R, kv heads, k_dim), v (R, kv heads, v_dim)."""
        rows = len(qkv)
        first = self.num_heads * self.k_dim
        second = first + self.num_kv_heads * self.k_dim
        return (
            qkv[:, :first].reshape(rows, self.num_heads, self.k_dim),
            qkv[:, first:second].reshape(rows, self.num_kv_heads, self.k_dim),
            qkv[:, second:].reshape(rows, self.num_kv_heads, self.v_dim),
        )


@dataclass(frozen=True, slots=True)
class KvPages:
    """Keys (pages, kv heads, 64, k_dim) and values (pages, kv heads, 64, v_dim), float16."""

    keys: Halves
    values: Halves

    def packed(self) -> bytes:
        """Return the bytes of the pages as the kernels lay them out."""
        pages, heads, _, k_dim = self.keys.shape
        keys = self.keys.reshape(pages, heads, 4, 16, k_dim).swapaxes(3, 4)
        pad = -self.values.shape[-1] % 16
        values = np.pad(self.values, ((0, 0), (0, 0), (0, 0), (0, pad)))
        both = [keys.reshape(pages, heads, -1), values.reshape(pages, heads, -1)]
        return np.concatenate(both, axis=2).tobytes()

    @classmethod
    def unpack(cls, raw: bytes, num_pages: int, heads: Heads) -> "KvPages":
        """Return the pages that `packed` wrote."""
        flat = np.frombuffer(raw, np.float16).reshape(num_pages, heads.num_kv_heads, -1)
        split = PAGE_TOKENS * heads.k_dim
        keys = flat[..., :split].reshape(num_pages, -1, 4, heads.k_dim, 16).swapaxes(3, 4)
        values = flat[..., split:].reshape(num_pages, heads.num_kv_heads, PAGE_TOKENS, -1)
        shape = (num_pages, heads.num_kv_heads, PAGE_TOKENS, heads.k_dim)
        return cls(keys.reshape(shape), values[..., : heads.v_dim])

    def of(self, span: Span) -> tuple[Halves, Halves]:
        """Return keys and values up to the span's last row, (positions, kv heads, size)."""
        end = span.position + span.num_rows
        pages = list(span.pages)
        keys = self.keys[pages].swapaxes(1, 2).reshape(-1, *self.keys.shape[1::2])
        values = self.values[pages].swapaxes(1, 2).reshape(-1, *self.values.shape[1::2])
        return keys[:end], values[:end]


def rope_table(team: Executor, frequencies: Floats, spans: Sequence[Span]) -> Floats:
    """Return cosines and sines (R, 2, pairs) of position times frequency."""
    rows = sum(span.num_rows for span in spans)
    bench = Bench(team, max_rows=rows, num_pages=_num_pages(spans))
    table = bench.space(4 * rows * 2 * len(frequencies))
    at = bench.place(frequencies)
    bench.program.rope_table(frequencies=at, pairs=len(frequencies), table=table)
    bench.run(rows, spans=spans)
    return bench.floats(table, (rows, 2, len(frequencies)))


@dataclass(frozen=True, slots=True)
class Rotation:
    """What happens to queries and keys: norms (weights or None), angles, the queries' scale.

    table: of `rope_table`, (R, 2, pairs).
    """

    table: Floats
    q_norm: Floats | None = None
    k_norm: Floats | None = None
    eps: float = 1e-6
    scale: float = 1.0
    interleaved: bool = False


def rotate(
    team: Executor, qkv: Floats, heads: Heads, rotation: Rotation, spans: Sequence[Span]
) -> tuple[Floats, KvPages]:
    """Return qkv (R, qkv_cols) with queries and keys rotated, and pages with the new K, V."""
    num_pages = _num_pages(spans)
    bench = Bench(team, max_rows=len(qkv), num_pages=num_pages)
    kv = bench.space(num_pages * heads.page_bytes)
    at = bench.place(qkv)
    bench.program.rotate(
        qkv=at, num_heads=heads.num_heads, kv=_kv_args(kv, heads),
        q_norm=bench.place(rotation.q_norm), k_norm=bench.place(rotation.k_norm), eps=rotation.eps,
        scale=rotation.scale, table=bench.place(rotation.table), pairs=rotation.table.shape[2],
        interleaved=rotation.interleaved,
    )  # fmt: skip
    bench.run(len(qkv), spans=spans)
    raw = bench.arena.read(kv, num_pages * heads.page_bytes)
    return bench.floats(at, qkv.shape), KvPages.unpack(raw, num_pages, heads)


def attend(
    team: Executor, qkv: Floats, heads: Heads, pages: KvPages, spans: Sequence[Span], *,
    window: int = 0, softcap: float = 0.0,
) -> Floats:  # fmt: skip
    """Return softmax(cap(q · K)) · V of each row over its window, (R, heads * v_dim)."""
    num_pages = len(pages.keys)
    bench = Bench(team, max_rows=len(qkv), num_pages=num_pages)
    kv = bench.space(num_pages * heads.page_bytes)
    bench.arena.write(kv, pages.packed())
    out = bench.space(4 * len(qkv) * heads.num_heads * heads.v_dim)
    bench.program.attend(
        qkv=bench.place(qkv), num_heads=heads.num_heads, kv=_kv_args(kv, heads), window=window,
        softcap=softcap, out=out,
    )  # fmt: skip
    bench.run(len(qkv), spans=spans)
    return bench.floats(out, (len(qkv), heads.num_heads * heads.v_dim))


def _num_pages(spans: Sequence[Span]) -> int:
    return 1 + max((page for span in spans for page in span.pages), default=0)


def _kv_args(offset: int, heads: Heads) -> tuple[int, int, int, int, int]:
    return (offset, heads.page_bytes, heads.num_kv_heads, heads.k_dim, heads.v_dim)
