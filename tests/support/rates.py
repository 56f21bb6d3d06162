"""Rates that no machine was measured for: round numbers."""

from tonnage.core.block_format import BlockFormat
from tonnage.core.plan import KV_FORMATS
from tonnage.core.rates import (
    MEASURED_FORMATS,
    AttendRate,
    PageRate,
    ProductRate,
    Rates,
    TeamRates,
)

BYTES_PER_S = 5e10
MACS_PER_S = 4e11


def made_up_rates(cached_bytes: int = 0) -> Rates:
    """Return rates of a machine of two cores that reads and multiplies twice as fast with both."""
    return Rates("made up", "avx2", 1e12, 1e-9, (_team(1, cached_bytes), _team(2, cached_bytes)))


def _team(threads: int, cached_bytes: int) -> TeamRates:
    attend = tuple(
        AttendRate(kv_format, queries, 0.0, 0.0, 1e-10, 1e-11 / threads)
        for kv_format in KV_FORMATS
        for queries in (1, 48)
    )
    return TeamRates(
        threads=threads,
        read_bytes_per_s=BYTES_PER_S * threads,
        cached_bytes=cached_bytes,
        call_s=1e-6,
        op_s=1e-7 * threads,
        product_s=0.0,
        product_row_s=0.0,
        element_s=(("norm", 1e-10), ("quantize", 1e-10)),
        attend=attend,
        pages=tuple(PageRate(kv_format, 1e-7 / threads, 0.0, 1e-12) for kv_format in KV_FORMATS),
        products=tuple(_product(form, threads) for form in MEASURED_FORMATS),
    )


def _product(form: BlockFormat, threads: int) -> ProductRate:
    weight_bytes = form.block_bytes / form.block_elems

    def rate(rows: int) -> float:
        seconds = max(weight_bytes / BYTES_PER_S, rows / MACS_PER_S)
        return threads * rows / seconds

    fresh = tuple((rows, rate(rows)) for rows in (1, 2, 4, 8, 512))
    return ProductRate(form.name, BYTES_PER_S * threads, fresh, ((1, threads * MACS_PER_S),))
