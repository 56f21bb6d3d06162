"""From the seconds of cases to the rates of a team: plain arithmetic, and what keeps it sane."""

import math
from collections.abc import Mapping
from itertools import product

from tonnage.backends.cpu.layout.sizes import kv_head_bytes, panel_bytes
from tonnage.core.block_format import BlockFormat
from tonnage.core.kv_format import PAGE_TOKENS
from tonnage.core.plan import KV_FORMATS
from tonnage.core.rates import (
    GATED,
    MEASURED_FORMATS,
    PRODUCT_ROWS,
    AttendRate,
    PageRate,
    ProductRate,
    TeamRates,
    rope_kv_write_kind,
)
from tonnage.machine.cases import (
    AGAIN_FORMAT,
    AGAIN_OPS,
    COLS,
    ELEMENT_ROWS,
    ELEMENTS,
    EMPTY_OPS,
    FAR,
    FEW_SEEN,
    FRESH_ROWS,
    HEAD_DIMS,
    LONGER,
    MANY_SEEN,
    NEAR,
    QUERIES,
    ROPE_HEADS,
    ROWS,
    SEEN_OPS,
    SHORT,
    SMALL,
    SMALL_OPS,
    Key,
    Sizes,
    rope_dim,
)


class Fit:
    """The rates of one team, from what its cases took."""

    def __init__(
        self,
        sizes: Sizes,
        typical: Mapping[Key, float],
        *,
        start_s: float,
        read_s: float,
        arena_bytes: int,
    ) -> None:
        """Take what was measured.

        typical: seconds by key, of all cases. start_s: an empty step as between two tokens.
        read_s: seconds per byte of plain reading. arena_bytes: what fresh weights come from.
        """
        self._sizes, self._typical = sizes, typical
        self._start_s, self._read_s, self._arena_bytes = start_s, read_s, arena_bytes
        empty, many = typical["empty", 1], typical["empty", EMPTY_OPS + 1]
        self._op_s = max(1e-9, (many - empty) / EMPTY_OPS)
        self._call_s = empty - self._op_s
        self._elements = self._element_rates()
        self._cached_bytes = self._kept_bytes()

    def rates(self) -> TeamRates:
        """Return them."""
        products = tuple(self._product(form) for form in MEASURED_FORMATS)
        rate = next(p for p in products if p.format == "Q8_0")
        one, most = (self._overhead_s(rows, rate) for rows in (1, PRODUCT_ROWS))
        return TeamRates(
            threads=self._sizes.threads,
            read_bytes_per_s=max(1 / self._read_s, *(p.bytes_per_s for p in products)),
            cached_bytes=self._cached_bytes,
            call_s=max(1e-9, self._start_s - self._op_s),
            op_s=self._op_s,
            product_s=one,
            product_row_s=max(0.0, most - one) / (PRODUCT_ROWS - 1),
            element_s=tuple(sorted(self._elements.items())),
            attend=tuple(
                self._attend_rate(kv_format, queries)
                for kv_format, queries in product(KV_FORMATS, QUERIES)
            ),
            pages=tuple(self._page_rate(kv_format) for kv_format in KV_FORMATS),
            products=products,
        )

    def _kept_bytes(self) -> int:
        """Return what the last cache keeps of matrices that are read over and over."""
        _, ops = self._sizes.products(AGAIN_FORMAT, 1)
        name = AGAIN_FORMAT.name
        cached = max(0.0, self._typical[name, 1] - self._call_s) / ops * AGAIN_OPS
        again, anew = (self._typical[key,] - self._call_s for key in ("again", "anew"))
        if anew <= cached:
            return 0
        kept = min(max((anew - again) / (anew - cached), 0.0), 0.5)
        return int(kept * self._sizes.again_bytes)

    def _element_rates(self) -> dict[str, float]:
        """Return seconds per element on one thread; with many rows every thread has its share."""

        def each_s(elements: int, *key: str | int) -> float:
            name, *rest = key
            many = self._typical[name, ELEMENT_ROWS, *rest] - self._typical[name, 1, *rest]
            return max(0.0, many / ((ELEMENT_ROWS - 1) * elements) * self._sizes.threads)

        names = ("norm", "norm added", "quantize")
        rates = {name: each_s(ELEMENTS, name) for name in names}
        for name in ("matmul", *GATED):
            # What is left of it without any columns.
            short, longer = (each_s(ELEMENTS, name, cols) for cols in (SHORT, LONGER))
            rates[name] = max(0.0, short - (longer - short) * SHORT / (LONGER - SHORT))
        heads, kv_heads = ROPE_HEADS
        for kv_format, normed in product(KV_FORMATS, (False, True)):
            name = rope_kv_write_kind(kv_format, normed=normed)
            rates[name] = each_s((heads + 2 * kv_heads) * rope_dim(normed=normed), name)
        rates["rope_table"] = each_s(ELEMENTS // 16, "rope_table")
        whole = self._typical["embed", ELEMENT_ROWS] - self._call_s - self._op_s
        rates["embed"] = max(0.0, whole) / (ELEMENT_ROWS * ELEMENTS) * self._sizes.threads
        return rates

    def _written_s(self, rows: int) -> float:
        """Return the seconds that a product of so many rows takes per row of its matrix."""
        return self._elements["matmul"] * rows / self._sizes.threads

    def _overhead_s(self, rows: int, rate: ProductRate) -> float:
        """Return what a small product takes beside its weights and what it writes."""
        out_rows, cols = SMALL
        whole = (self._typical["small", rows] - self._call_s) / SMALL_OPS - self._op_s
        whole -= out_rows * self._written_s(rows)
        return max(0.0, whole - out_rows * cols * rate.weight_s(rows, 1.0))

    def _product(self, form: BlockFormat) -> ProductRate:
        busy = no_slower_than_more({n: self._whole(form, n, form.name) for n in ROWS})
        mixed = {n: self._whole(form, n, "fresh", form.name) for n in FRESH_ROWS}
        # A little of what is called fresh comes from the cache.
        kept = min(0.5, self._cached_bytes / self._arena_bytes)
        fresh = no_slower_than_more(
            {n: min(busy[n], without_cached(mixed[n], busy[n], kept)) for n in mixed}
        )
        waiting = {n: self._with_hidden(n, busy[n], fresh[n]) for n in fresh}
        weight_bytes = panel_bytes(form, COLS) / (32 * COLS)
        return ProductRate(
            form.name,
            weight_bytes * waiting[1],
            tuple(waiting.items()),
            tuple((n, self._without_written(n, rate)) for n, rate in busy.items()),
        )

    def _whole(self, form: BlockFormat, rows: int, *kind: str) -> float:
        """Return multiply-adds per second, with the time that writing takes."""
        (out_rows, cols), ops = self._sizes.products(form, rows)
        whole = self._typical[*kind, rows]
        beside = self._call_s + ops * self._op_s
        return ops * out_rows * cols * rows / max(whole - beside, 0.1 * whole)

    def _without_written(self, rows: int, rate: float) -> float:
        pass_s = rows / rate
        return rows / max(pass_s - self._written_s(rows) / COLS, 0.1 * pass_s)

    def _with_hidden(self, rows: int, busy: float, fresh: float) -> float:
        """Return the rate over fresh weights, writing left out but for the wait that it hides.

        That shows where fresh weights take longer than cached ones: where not, nothing waits.
        """
        waits_s = rows / fresh - rows / busy
        hidden_s = min(waits_s, self._written_s(rows) / COLS)
        return rows / (rows / self._without_written(rows, busy) + waits_s + hidden_s)

    def _query_s(self, kv_format: str, queries: int, dim: int, seen: int) -> float:
        rows, (heads, _) = self._sizes.attend(queries, dim)
        whole = self._typical[kv_format, queries, dim, seen] - self._op_s - self._call_s
        return max(1e-12, whole) / (heads * rows)

    def _attend_rate(self, kv_format: str, queries: int) -> AttendRate:
        """Return what sizes of heads and numbers of pages distinguish."""
        low, high = (2 * dim for dim in HEAD_DIMS)
        near, pair_s = [], []
        for dim in HEAD_DIMS:
            near.append(self._query_s(kv_format, queries, dim, NEAR))
            far = self._query_s(kv_format, queries, dim, FAR)
            pair_s.append(max(far - near[-1], 0.25 * far) / (FAR - NEAR))
        mac_s = max((pair_s[1] - pair_s[0]) / (high - low), 0.25 * pair_s[1] / high)
        start_s = [max(0.0, one - NEAR * each) for one, each in zip(near, pair_s, strict=True)]
        element_s = max(0.0, start_s[1] - start_s[0]) / (high - low)
        return AttendRate(
            kv_format,
            queries,
            max(0.0, start_s[0] - element_s * low),
            element_s,
            max(0.0, pair_s[0] - mac_s * low),
            mac_s,
        )

    def _page_rate(self, kv_format: str) -> PageRate:
        """Return what fresh pages cost beside the arithmetic, from few of them and from many."""
        heads = self._sizes.seen_heads

        def beside_s(dim: int, seen: int) -> float:
            fresh, kept = (self._typical[kind, kv_format, dim, seen] for kind in ("seen", "kept"))
            return max(0.0, fresh - kept) / SEEN_OPS

        def position_bytes(dim: int) -> float:
            return kv_head_bytes(dim, dim, kv_format) * heads / PAGE_TOKENS

        def visit_s(dim: int) -> float:
            beside = beside_s(dim, FEW_SEEN) - byte_s * position_bytes(dim) * FEW_SEEN
            return max(0.0, beside) / heads

        low, high = HEAD_DIMS
        few, many = beside_s(low, FEW_SEEN), beside_s(low, MANY_SEEN)
        byte_s = max(0.0, many - few) / (position_bytes(low) * (MANY_SEEN - FEW_SEEN))
        element_s = max(0.0, visit_s(high) - visit_s(low)) / (2 * (high - low))
        return PageRate(kv_format, max(0.0, visit_s(low) - element_s * 2 * low), element_s, byte_s)


def without_cached(mixed: float, cached: float, kept: float) -> float:
    """Return the rate of fresh weights, where a share `kept` of the mixed ones came at `cached`.

    Rates that do not go together, because one was disturbed, leave the mixed one as it is.
    """
    rest = 1 / mixed - kept / cached
    return (1 - kept) / rest if rest > 0 else mixed


def no_slower_than_more(rates: Mapping[int, float]) -> dict[int, float]:
    """Return rates by rows in which no pass takes longer than one that more rows share.

    Such a measurement was disturbed; with it one token of Qwen 0.5B came out 15 % too slow.
    """
    result: dict[int, float] = {}
    least_s = math.inf
    for rows in sorted(rates, reverse=True):
        least_s = min(least_s, rows / rates[rows])
        result[rows] = rows / least_s
    return dict(sorted(result.items()))
