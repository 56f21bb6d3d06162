"""The native kernels of attention as functions of arrays, and the KV page layout in numpy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import numpy as np
import numpy.typing as npt

from kernel_ops.arena import Floats, KernelArena, Span
from tonnage._native import Executor
from tonnage.core.kv_format import PAGE_TOKENS
from tonnage.core.plan import KvFormat
from tonnage.core.rounding import round_up

Halves = npt.NDArray[np.float16]
Doubles = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.int8]
Element = TypeVar("Element", np.float16, np.float64)


@dataclass(frozen=True, slots=True)
class Heads:
    """Query heads over fewer key/value heads, and the sizes of a head's K and V."""

    num_heads: int
    num_kv_heads: int
    k_dim: int
    v_dim: int

    @property
    def lie_whole(self) -> bool:
        """Whether heads are whole vectors of sixteen; int8 codes of others are of zeros too."""
        return self.k_dim % 16 == 0 and self.v_dim % 16 == 0

    @property
    def qkv_cols(self) -> int:
        """Columns of queries, keys and values side by side."""
        return (self.num_heads + self.num_kv_heads) * self.k_dim + self.num_kv_heads * self.v_dim

    def page_bytes(self, kv_format: KvFormat) -> int:
        """Return the bytes of a page of all heads."""
        is_int8 = kv_format == "int8"
        k_pad = round_up(self.k_dim, 16) if is_int8 else self.k_dim
        elements = PAGE_TOKENS * (k_pad + round_up(self.v_dim, 16))
        per_head = elements + 4 * PAGE_TOKENS if is_int8 else 2 * elements
        return self.num_kv_heads * per_head

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
    format: ClassVar[KvFormat] = "f16"

    def __len__(self) -> int:
        """Return the number of pages."""
        return len(self.keys)

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
        return _in_order(self.keys, span), _in_order(self.values, span)


@dataclass(frozen=True, slots=True)
class Coded:
    """Elements (pages, kv heads, 64, size): scales (pages, kv heads, 64) times codes."""

    codes: Bytes
    scales: Halves

    def elements(self) -> Doubles:
        """Return what the codes stand for."""
        return self.codes.astype(np.float64) * self.scales[..., None].astype(np.float64)


@dataclass(frozen=True, slots=True)
class Int8Pages:
    """Keys and values in int8 with one scale per token and head; sizes are multiples of 16."""

    keys: Coded
    values: Coded
    format: ClassVar[KvFormat] = "int8"

    def __len__(self) -> int:
        """Return the number of pages."""
        return len(self.keys.codes)

    def packed(self) -> bytes:
        """Return the bytes of the pages as the kernels lay them out."""
        pages, heads, _, k_dim = self.keys.codes.shape
        keys = self.keys.codes.reshape(pages, heads, 4, 16, k_dim // 4, 4).swapaxes(3, 4)
        values = self.values.codes.reshape(pages, heads, 16, 4, -1).swapaxes(3, 4)
        parts = []
        for coded, codes in ((self.keys, keys), (self.values, values)):
            raw = (codes.reshape(pages, heads, -1).astype(np.int16) + 128).astype(np.uint8)
            parts += [np.ascontiguousarray(coded.scales).view(np.uint8), raw]
        return np.concatenate(parts, axis=2).tobytes()

    @classmethod
    def unpack(cls, raw: bytes, num_pages: int, heads: Heads) -> "Int8Pages":
        """Return the pages that `packed` wrote."""
        flat = np.frombuffer(raw, np.uint8).reshape(num_pages, heads.num_kv_heads, -1)
        scale_bytes = 2 * PAGE_TOKENS
        k_pad = round_up(heads.k_dim, 16)
        middle = scale_bytes + PAGE_TOKENS * k_pad
        parts = []
        for part in (flat[..., :middle], flat[..., middle:]):
            scales = np.ascontiguousarray(part[..., :scale_bytes]).view(np.float16)
            codes = (part[..., scale_bytes:].astype(np.int16) - 128).astype(np.int8)
            parts.append((codes, scales))
        (keys, key_scales), (values, value_scales) = parts
        shape = (num_pages, heads.num_kv_heads)
        keys = keys.reshape(*shape, 4, k_pad // 4, 16, 4).swapaxes(3, 4)
        values = values.reshape(*shape, 16, -1, 4).swapaxes(3, 4)
        return cls(
            Coded(keys.reshape(*shape, PAGE_TOKENS, k_pad), key_scales),
            Coded(values.reshape(*shape, PAGE_TOKENS, -1), value_scales),
        )

    def of(self, span: Span) -> tuple[Doubles, Doubles]:
        """Return keys and values up to the span's last row, (positions, kv heads, size)."""
        return _in_order(self.keys.elements(), span), _in_order(self.values.elements(), span)


Pages = KvPages | Int8Pages


def _in_order(part: npt.NDArray[Element], span: Span) -> npt.NDArray[Element]:
    """Return (positions, kv heads, size) of (pages, kv heads, 64, size), for a span's pages."""
    ordered = part[list(span.pages)].swapaxes(1, 2)
    return ordered.reshape(-1, *part.shape[1::2])[: span.position + span.num_rows]


def rope_table(
    team: Executor, frequencies: Floats, spans: Sequence[Span], scale: float = 1.0
) -> Floats:
    """Return cosines and sines (R, 2, pairs) of position times frequency, times scale."""
    rows = sum(span.num_rows for span in spans)
    arena = KernelArena(team, max_rows=rows, num_pages=_num_pages(spans))
    table = arena.space(4 * rows * 2 * len(frequencies))
    at = arena.place(frequencies)
    arena.program.rope_table(frequencies=at, pairs=len(frequencies), table=table, scale=scale)
    arena.run(rows, spans=spans)
    return arena.floats(table, (rows, 2, len(frequencies)))


@dataclass(frozen=True, slots=True)
class Rotation:
    """What happens to queries and keys: norms (weights or None), angles, the queries' scale.

    table: of `rope_table`, (R, 2, pairs). k_bias (kv heads, k_dim): what int8 keys leave out of
    pairs from `low_from` on, and of elements that are in no pair. temperature: of queries, and the
    positions after which it grows.
    """

    table: Floats
    q_norm: Floats | None = None
    k_norm: Floats | None = None
    eps: float = 1e-6
    scale: float = 1.0
    interleaved: bool = False
    k_bias: Floats | None = None
    low_from: int = 0
    temperature: tuple[float, int] = (0.0, 0)


def qk_norm(
    team: Executor, qkv: Floats, heads: Heads, q_norm: Floats, k_norm: Floats, eps: float
) -> Floats:
    """Return qkv (R, cols) with queries and keys normed, each over all heads of a row."""
    arena = KernelArena(team, max_rows=len(qkv))
    at = arena.place(qkv)
    arena.program.qk_norm(
        qkv=at, cols=heads.qkv_cols, q_cols=len(q_norm), k_cols=len(k_norm),
        q_norm=arena.place(q_norm), k_norm=arena.place(k_norm), eps=eps,
    )  # fmt: skip
    arena.run(len(qkv))
    return arena.floats(at, qkv.shape)


def rope_kv_write(
    team: Executor, qkv: Floats, heads: Heads, rotation: Rotation, spans: Sequence[Span],
    kv_format: KvFormat = "f16",
) -> tuple[Floats, Pages]:  # fmt: skip
    """Return qkv (R, qkv_cols) with queries and keys rotated, and pages with the new K, V."""
    num_pages = _num_pages(spans)
    arena = KernelArena(team, max_rows=len(qkv), num_pages=num_pages)
    page_bytes = heads.page_bytes(kv_format)
    kv = arena.space(num_pages * page_bytes)
    at = arena.place(qkv)
    arena.program.rope_kv_write(
        qkv=at, num_heads=heads.num_heads, kv=_kv_args(kv, heads, kv_format),
        q_norm=arena.place(rotation.q_norm), k_norm=arena.place(rotation.k_norm), eps=rotation.eps,
        scale=rotation.scale, table=arena.place(rotation.table), pairs=rotation.table.shape[2],
        interleaved=rotation.interleaved, k_bias=arena.place(rotation.k_bias),
        low_from=rotation.low_from, temperature=rotation.temperature[0],
        temperature_tokens=rotation.temperature[1],
    )  # fmt: skip
    arena.run(len(qkv), spans=spans)
    raw = arena.memory.read(kv, num_pages * page_bytes)
    pages = Int8Pages if kv_format == "int8" else KvPages
    return arena.floats(at, qkv.shape), pages.unpack(raw, num_pages, heads)


def attend(
    team: Executor, qkv: Floats, heads: Heads, pages: Pages, spans: Sequence[Span], *,
    window: int = 0, softcap: float = 0.0,
) -> Floats:  # fmt: skip
    """Return softmax(cap(q · K)) · V of each row over its window, (R, heads * v_dim)."""
    arena = KernelArena(team, max_rows=len(qkv), num_pages=len(pages))
    kv = arena.space(len(pages) * heads.page_bytes(pages.format))
    arena.memory.write(kv, pages.packed())
    out = arena.space(4 * len(qkv) * heads.num_heads * heads.v_dim)
    arena.program.attend(
        qkv=arena.place(qkv), num_heads=heads.num_heads, kv=_kv_args(kv, heads, pages.format),
        window=window, softcap=softcap, out=out,
    )  # fmt: skip
    arena.run(len(qkv), spans=spans)
    return arena.floats(out, (len(qkv), heads.num_heads * heads.v_dim))


def _num_pages(spans: Sequence[Span]) -> int:
    return 1 + max((page for span in spans for page in span.pages), default=0)


def _kv_args(
    offset: int, heads: Heads, kv_format: KvFormat
) -> tuple[int, int, int, int, int, str, int]:
    stride = heads.page_bytes(kv_format)
    return (offset, stride, heads.num_kv_heads, heads.k_dim, heads.v_dim, kv_format, 0)
