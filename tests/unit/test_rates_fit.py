"""From cases to rates: a machine whose constants are known must give them back."""

import math
from unittest.mock import Mock

import pytest

from tonnage.backends.cpu.layout.sizes import kv_head_bytes, panel_bytes
from tonnage.core.block_format import BY_NAME
from tonnage.core.kv_format import PAGE_TOKENS
from tonnage.core.rates import rope_kv_write_kind
from tonnage.core.rounding import round_up
from tonnage.machine import cases as t
from tonnage.machine.rates_fit import Fit, no_slower_than_more

CALL_S, OP_S, WRITTEN_S, GATED_S, MAC_S, BYTES_PER_S = 2e-6, 1e-7, 2e-10, 7e-10, 3e-12, 4e10
START_S, START_ELEMENT_S, PAIR_S, ATTEND_MAC_S = 2e-8, 1e-10, 4e-10, 5e-12
VISIT_S, VISIT_ELEMENT_S, PAGE_BYTE_S = 4e-7, 1e-9, 5e-12
KEPT_BYTES, GROUND_BYTES = 16 << 20, 1 << 40
SIZES = t.Sizes(2)
# Nothing is run here, so no memory is needed.
KEYS = [key for make in (t.cached_cases, t.fresh_cases) for key, _ in make(Mock(), SIZES)]


def product_s(name: str, rows: int, *, fresh: bool) -> float:
    """Seconds of a measured product: the multipliers, the writing, or the memory's bytes."""
    form = BY_NAME[name]
    (out_rows, cols), ops = SIZES.products(form, rows)
    busy = out_rows * cols * rows * MAC_S + out_rows * rows * WRITTEN_S / SIZES.threads
    reading = panel_bytes(form, cols) * (out_rows // 32) / BYTES_PER_S
    return CALL_S + ops * (OP_S + (max(busy, reading) if fresh else busy))


def query_s(dim: int, seen: int) -> float:
    elements, paged = 2 * dim, round_up(seen, PAGE_TOKENS)
    start = START_S + START_ELEMENT_S * elements
    return start + paged * PAIR_S + seen * ATTEND_MAC_S * elements


def attend_s(queries: int, dim: int, seen: int) -> float:
    rows, (heads, _) = SIZES.attend(queries, dim)
    return CALL_S + OP_S + heads * rows * query_s(dim, seen)


def seen_s(kv_format: str, dim: int, seen: int, *, fresh: bool) -> float:
    heads = SIZES.seen_heads
    each = 2 * OP_S + t.SEEN_GROUP * heads * query_s(dim, seen)
    if fresh:
        position_bytes = kv_head_bytes(dim, dim, kv_format) / PAGE_TOKENS
        each += heads * (VISIT_S + VISIT_ELEMENT_S * 2 * dim + position_bytes * seen * PAGE_BYTE_S)
    return CALL_S + t.SEEN_OPS * each


def streamed_s(kept: float) -> float:
    form, ops = t.AGAIN_FORMAT, SIZES.products(t.AGAIN_FORMAT, 1)[1]
    fresh, cached = (product_s(form.name, 1, fresh=fresh) - CALL_S for fresh in (True, False))
    return CALL_S + t.AGAIN_OPS / ops * (fresh - kept * (fresh - cached))


def short_s(name: str, rows: int, cols: int) -> float:
    each = {"matmul": WRITTEN_S}.get(name, GATED_S) / SIZES.threads + cols * MAC_S
    return CALL_S + OP_S + rows * t.ELEMENTS * each


def small_s(rows: int) -> float:
    out_rows, cols = t.SMALL
    each = OP_S + out_rows * rows * (WRITTEN_S / SIZES.threads + cols * MAC_S)
    return CALL_S + t.SMALL_OPS * each


def seconds(key: t.Key) -> float:
    """What the case `key` takes on the machine of these constants."""
    name, *rest = key
    special = {
        "fresh": lambda: product_s(rest[0], rest[1], fresh=True),
        "seen": lambda: seen_s(*rest, fresh=True),
        "kept": lambda: seen_s(*rest, fresh=False),
        "small": lambda: small_s(rest[0]),
        "empty": lambda: CALL_S + rest[0] * OP_S,
        "again": lambda: streamed_s(KEPT_BYTES / SIZES.again_bytes),
        "anew": lambda: streamed_s(0),
    }
    if name in special:
        return special[name]()
    if name in BY_NAME:
        return product_s(name, rest[0], fresh=False)
    if name in ("f16", "int8"):
        return attend_s(*rest)
    if len(rest) == 2:
        return short_s(name, *rest)
    return CALL_S + OP_S + rest[0] * t.ELEMENTS * WRITTEN_S / SIZES.threads


@pytest.fixture(scope="module")
def team():
    assert len(set(KEYS)) == len(KEYS)
    typical = {key: seconds(key) for key in KEYS}
    read_s = 1 / BYTES_PER_S
    fit = Fit(SIZES, typical, start_s=2 * CALL_S, read_s=read_s, arena_bytes=GROUND_BYTES)
    return fit.rates()


def test_steps_and_operations(team):
    assert team.call_s == pytest.approx(2 * CALL_S - OP_S)
    assert team.op_s == pytest.approx(OP_S)
    assert team.product_s == pytest.approx(0, abs=1e-12)
    assert team.cached_bytes == pytest.approx(KEPT_BYTES, rel=1e-6)


def test_what_a_product_writes_is_told_from_its_columns(team):
    assert team.element("matmul") == pytest.approx(WRITTEN_S)
    assert team.element("gated silu") == team.element("gated gelu") == pytest.approx(GATED_S)


def test_other_elements(team):
    assert team.element("norm added") == pytest.approx(WRITTEN_S)
    # Every case but those of products takes as long as writing 1,024 elements of each row.
    heads, kv_heads = t.ROPE_HEADS
    for normed in (False, True):
        elements = (heads + 2 * kv_heads) * t.rope_dim(normed=normed)
        expected = pytest.approx(WRITTEN_S * t.ELEMENTS / elements)
        assert team.element(rope_kv_write_kind("int8", normed=normed)) == expected


@pytest.mark.parametrize("name", ["Q4_0", "Q8_0", "F16"])
@pytest.mark.parametrize("rows", [1, 2, 8, 64, 512])
def test_products_of_any_shape_are_forecast(team, name, rows):
    """Of 4,864 columns too: what 1,024 columns hide must not be taken for arithmetic."""
    rate = next(rate for rate in team.products if rate.format == name)
    form = BY_NAME[name]
    busy = rows * MAC_S
    reading = panel_bytes(form, t.COLS) / (32 * t.COLS) / BYTES_PER_S
    for cols in (t.COLS, 4864):
        beside = rows * WRITTEN_S / SIZES.threads / cols
        assert beside + rate.weight_s(rows, 1.0, beside) == pytest.approx(busy + beside)
        # A wait that is shorter than the writing beside 1,024 columns is seen in part only.
        hidden = rows * WRITTEN_S / SIZES.threads / t.COLS
        whole = beside + rate.weight_s(rows, 0.0, beside)
        expected = max(busy + beside, reading)
        assert expected - hidden <= whole * (1 + 1e-5)
        assert whole <= expected * (1 + 1e-5)
        if busy + 2 * hidden < reading:
            assert whole == pytest.approx(expected, rel=1e-5)


def test_attention(team):
    for kv_format, queries in (("f16", 1), ("int8", 7), ("int8", 48)):
        rate = team.attend_at(kv_format, queries)
        expected = (START_S, START_ELEMENT_S, PAIR_S, ATTEND_MAC_S)
        assert rate.seconds == pytest.approx(expected, rel=1e-6)
    pages = team.pages_of("int8")
    assert pages.visit_s == pytest.approx(VISIT_S, rel=1e-6)
    assert pages.element_s == pytest.approx(VISIT_ELEMENT_S, rel=1e-6)
    assert pages.byte_s == pytest.approx(PAGE_BYTE_S, rel=1e-6)


def test_times_that_do_not_go_together_give_rates_all_the_same():
    """Passes of which many were disturbed: nothing negative, nothing endless."""
    for step in (7, 11, 13):
        typical = {key: 1e-6 * (1 + i * step % 17) for i, key in enumerate(KEYS)}
        team = Fit(SIZES, typical, start_s=1e-9, read_s=1e-10, arena_bytes=1 << 28).rates()
        times = [
            *(s for _, s in team.element_s),
            *(s for rate in team.attend for s in rate.seconds),
        ]
        times += [team.call_s, team.op_s, team.product_s, team.product_row_s]
        for rate in team.products:
            times += [rate.weight_s(rows, 0.3, 1e-12) for rows in (1, 5, 9, 600)]
        assert all(0 <= seconds < math.inf for seconds in times)
        assert 0 <= team.cached_bytes <= SIZES.again_bytes


def test_no_pass_is_slower_than_one_that_more_rows_share():
    rates = no_slower_than_more({1: 1.0, 2: 4.0, 4: 4.0})
    assert rates == {1: 2.0, 2: 4.0, 4: 4.0}
