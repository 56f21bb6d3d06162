"""Attention over pages: windows, soft caps, grouped heads, any order of pages."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from kernel_bounds import (
    GROWTH,
    TINY,
    U,
    assert_same_bits,
    assert_within,
    hadamard_bound,
    scattered,
)

from kernel_ops import attention, oracles
from kernel_ops.arena import Span
from kernel_ops.attention import Heads, Int8Pages, KvPages, Pages
from tonnage._native import Executor
from tonnage.core.rounding import round_up

Team = Callable[[int], Executor]
TeamOf = Callable[[str, int], Executor]
HEADS = (
    Heads(4, 2, 64, 64), Heads(3, 1, 80, 80), Heads(2, 2, 96, 96), Heads(5, 1, 128, 64),
    Heads(4, 4, 16, 48), Heads(2, 1, 256, 256), Heads(1, 1, 512, 512), Heads(14, 2, 80, 16),
    Heads(48, 1, 16, 16), Heads(3, 1, 100, 100), Heads(4, 2, 8, 8), Heads(6, 3, 24, 100),
    Heads(1, 1, 1, 511), Heads(2, 1, 33, 7),
)  # fmt: skip
FORMATS = ("f16", "int8")
SPLIT_MAX = 63 * 128  # the largest code of queries and weights over int8 pages
CAPS_AND_WINDOWS = ((0.0, 0), (5.0, 0), (0.0, 7), (30.0, 64), (0.0, 65), (0.0, 1000))


def random_pages(
    num_pages: int, heads: Heads, rng: np.random.Generator, kv_format: str = "f16"
) -> Pages:
    """Return pages full of values."""
    shape = (num_pages, heads.num_kv_heads, 64)
    dims = (heads.k_dim, heads.v_dim)
    if kv_format == "int8":
        dims = tuple(round_up(dim, 16) for dim in dims)
    keys, values = (rng.standard_normal((*shape, dim)) for dim in dims)
    if kv_format == "f16":
        return KvPages(keys.astype(np.float16), values.astype(np.float16))
    return Int8Pages(
        oracles.kv_codes(keys.astype(np.float32)), oracles.kv_codes(values.astype(np.float32))
    )


def random_queries(num_rows: int, heads: Heads, rng: np.random.Generator) -> np.ndarray:
    """Return rows of queries, keys and values whose scores have a spread of about 3."""
    qkv = rng.standard_normal((num_rows, heads.qkv_cols)) * 3 / np.sqrt(heads.k_dim)
    return qkv.astype(np.float32)


def attend_bound(
    qkv: np.ndarray, heads: Heads, pages: Pages, spans: list[Span], window: int, cap: float
) -> np.ndarray:
    """Return how far each output may lie from the exact one.

    A score has one rounding per element of the head, its cap 10 u cap; a weight adds the rounding
    of score - peak and 5 u of the exponential. Each page rounds the sum over its 64 weights and
    values, and 8 times the total. Int8 pages add what `code_bound` says, eight roundings, and those
    of the rotation of queries.
    """
    q = np.abs(oracles.queries(qkv, heads, pages.format))
    off = rotation_bound(qkv, heads) / U if pages.format == "int8" else 0 * q
    out = []
    for span, first in zip(spans, np.cumsum([0, *(s.num_rows for s in spans)])[:-1], strict=True):
        keys, values = (np.abs(part.astype(np.float64)) for part in pages.of(span))
        sums = (65 + 8 + 8 * (pages.format == "int8")) * (len(keys) / 64 + 1) + 2
        for i in range(span.num_rows):
            end = span.position + i + 1
            seen = slice(max(0, end - window) if window else 0, end)
            for head in range(heads.num_heads):
                group = head // (heads.num_heads // heads.num_kv_heads)
                size = keys[seen, group] @ q[first + i, head]
                spread = 2 * (min(cap, size.max()) if cap else size.max())
                moved = (keys[seen, group] @ off[first + i, head]).max()
                relative = (q.shape[2] * size.max() + moved + 10 * cap + spread + 5) * 2 + sums
                out.append(U * relative * values[seen, group].max(axis=0))
    if isinstance(pages, Int8Pages):
        out = np.array(out) + code_bound(qkv, heads, pages, spans, window, cap)
        wide = replace(heads, v_dim=out.shape[-1])
        exact = oracles.attend(qkv_of(qkv, heads, wide), wide, pages, spans, window, cap)
        stored, other = oracles.hadamard_factors(wide.v_dim)
        before = stored * oracles.hadamard(exact.reshape(out.shape))
        bound = hadamard_bound(out, before, other)[:, : heads.v_dim]
        return GROWTH * bound.reshape(len(qkv), -1) + TINY
    return GROWTH * np.array(out).reshape(len(qkv), -1) + TINY


def rotation_bound(qkv: np.ndarray, heads: Heads) -> np.ndarray:
    """Return how far the rotation of queries may be off, (R, heads, size)."""
    q = oracles.whole(heads.split(qkv)[0])
    return hadamard_bound(0 * q, q, oracles.hadamard_factors(q.shape[2])[1])


def qkv_of(qkv: np.ndarray, heads: Heads, wide: Heads) -> np.ndarray:
    """Return the rows of `heads` with more columns of values, which attention does not read."""
    return np.pad(qkv, ((0, 0), (0, wide.qkv_cols - heads.qkv_cols)))


def code_bound(
    qkv: np.ndarray, heads: Heads, pages: Int8Pages, spans: list[Span], window: int, cap: float
) -> np.ndarray:
    """Return how far codes of 14 bits move each output, (R * heads, v_dim).

    A query's elements are off by half a step of its largest, which moves scores by `moved` at most
    and weights by e^(2 moved). A page's weights times their scales are off by half a step of the
    largest of them, each times the code of its value.
    """
    step = 0.5 / SPLIT_MAX
    q = oracles.queries(qkv, heads, "int8")
    value_scales = pages.values.scales.astype(np.float64)
    out, row = [], 0
    for span in spans:
        keys, values = pages.of(span)
        scales = value_scales[list(span.pages)].swapaxes(1, 2).reshape(-1, heads.num_kv_heads)
        for end in range(span.position + 1, span.position + span.num_rows + 1):
            begin = max(0, end - window) if window else 0
            for head in range(heads.num_heads):
                group = head // (heads.num_heads // heads.num_kv_heads)
                scores = oracles.softcap(keys[begin:end, group] @ q[row, head], cap)
                weights = np.exp(scores - scores.max())
                scaled = weights / weights.sum() * scales[begin:end, group]
                codes = np.abs(values[begin:end, group]) / scales[begin:end, group, None]
                largest_step = step * np.abs(q[row, head]).max()
                moved = largest_step * np.abs(keys[begin:end, group]).sum(axis=1).max()
                off = np.expm1(2 * moved) * np.abs(values[begin:end, group]).max(axis=0)
                for page in range(begin // 64, -(-end // 64)):
                    part = slice(max(0, 64 * page - begin), 64 * page + 64 - begin)
                    off = off + step * np.exp(2 * moved) * scaled[part].max() * codes[part].sum(
                        axis=0
                    )
                out.append(off)
            row += 1
    return np.array(out)


@pytest.mark.parametrize(("cap", "window"), CAPS_AND_WINDOWS)
@pytest.mark.parametrize("heads", HEADS, ids=str)
@pytest.mark.parametrize("kv_format", FORMATS)
def test_equals_oracle(
    team: Team, kv_format: str, heads: Heads, cap: float, window: int, rng: np.random.Generator
) -> None:
    spans = [Span(scattered(70, rng), 5, 65), Span([2], 3), Span(scattered(193, rng, 3), 1, 192)]
    qkv = random_queries(9, heads, rng)
    pages = random_pages(7, heads, rng, kv_format)
    out = attention.attend(
        team(1 + heads.k_dim // 16 % 3), qkv, heads, pages, spans, window=window, softcap=cap
    )
    exact = oracles.attend(qkv, heads, pages, spans, window, cap)
    assert_within(out, exact, attend_bound(qkv, heads, pages, spans, window, cap))


def test_scores_far_apart(team: Team, rng: np.random.Generator) -> None:
    heads = Heads(2, 1, 64, 32)
    spans = [Span([1, 0, 2], 2, 150)]
    qkv = 100 * random_queries(2, heads, rng)
    pages = random_pages(3, heads, rng)
    out = attention.attend(team(2), qkv, heads, pages, spans)
    exact = oracles.attend(qkv, heads, pages, spans, 0, 0.0)
    assert_within(out, exact, attend_bound(qkv, heads, pages, spans, 0, 0.0))


def test_one_position_of_int8_returns_its_value(team: Team, rng: np.random.Generator) -> None:
    heads = Heads(4, 2, 64, 48)
    pages = random_pages(1, heads, rng, "int8")
    out = attention.attend(team(1), random_queries(1, heads, rng), heads, pages, [Span([0], 1)])
    # The one weight is the largest, so its code is exact; its scale is rounded twice.
    stored = np.repeat(pages.values.elements()[0, :, 0], 2, axis=0)
    factor = oracles.hadamard_factors(48)[1]
    bound = GROWTH * hadamard_bound(4 * U * np.abs(stored), stored, factor)
    assert_within(out.reshape(4, 48), factor * oracles.hadamard(stored), bound)


def test_one_position_returns_its_value(team: Team, rng: np.random.Generator) -> None:
    heads = Heads(4, 2, 64, 48)
    pages = random_pages(1, heads, rng)
    out = attention.attend(team(1), random_queries(1, heads, rng), heads, pages, [Span([0], 1)])
    exact = np.repeat(pages.values[0, :, 0], 2, axis=0).astype(np.float32)
    assert_same_bits(out.reshape(4, 48), exact, "value")


@pytest.mark.parametrize("stale", [0.0, 65504.0, np.inf, np.nan])
def test_what_a_page_held_before_does_not_matter(
    team: Team, stale: float, rng: np.random.Generator
) -> None:
    heads = Heads(4, 2, 64, 48)
    spans = [Span([0, 1], 3, 66)]
    pages = random_pages(2, heads, rng)
    qkv = random_queries(3, heads, rng)
    expected = attention.attend(team(1), qkv, heads, pages, spans)
    pages.keys[1, :, 5:] = stale
    pages.values[1, :, 5:] = stale
    assert_same_bits(attention.attend(team(1), qkv, heads, pages, spans), expected, "stale page")


@pytest.mark.parametrize("stale", [0, 0xFF, 0x76])
def test_what_an_int8_page_held_before_does_not_matter(
    team: Team, stale: int, rng: np.random.Generator
) -> None:
    # As scales: 0, NaN, and 26,000 or so.
    heads = Heads(4, 2, 64, 48)
    spans = [Span([0, 1], 3, 66)]
    pages = random_pages(2, heads, rng, "int8")
    qkv = random_queries(3, heads, rng)
    expected = attention.attend(team(1), qkv, heads, pages, spans)
    for part in (pages.keys, pages.values):
        part.codes[1, :, 5:] = stale - 128
        part.scales[1, :, 5:] = np.array(stale * 0x0101, np.uint16).view(np.float16)
    assert_same_bits(attention.attend(team(1), qkv, heads, pages, spans), expected, "stale page")


@pytest.mark.parametrize("unseen", [65504.0, -65504.0])
@pytest.mark.parametrize("where", ["after", "before the window"])
def test_what_a_row_does_not_see_does_not_matter(
    team: Team, where: str, unseen: float, rng: np.random.Generator
) -> None:
    # Infinities are never stored (test_rope_kv_write.py), since 0 times one would be NaN.
    heads = Heads(4, 2, 64, 48)
    spans = [Span([0, 1], 3, 66)]
    pages = random_pages(2, heads, rng)
    qkv = random_queries(3, heads, rng)
    expected = attention.attend(team(1), qkv, heads, pages, spans, window=5)
    # Rows at 66, 67, 68 see five positions each; 62 is the first one's alone, 68 the last one's.
    page, slot, kept = (1, 4, [0, 1]) if where == "after" else (0, 62, [1, 2])
    pages.values[page, :, slot] = unseen
    out = attention.attend(team(1), qkv, heads, pages, spans, window=5)
    assert_same_bits(out[kept], expected[kept], where)


@pytest.mark.parametrize("heads", [Heads(6, 2, 80, 48), Heads(6, 2, 100, 7)], ids=str)
@pytest.mark.parametrize("kv_format", FORMATS)
def test_bits_depend_on_nothing_but_the_sequence(
    isas: list[str], team_of: TeamOf, kv_format: str, heads: Heads, rng: np.random.Generator
) -> None:
    qkv = random_queries(140, heads, rng)
    pages = random_pages(8, heads, rng, kv_format)
    whole = [Span([4, 1, 6], 140)]
    for window, cap in ((0, 0.0), (7, 0.0), (70, 5.0)):
        kind = {"window": window, "softcap": cap}
        expected = attention.attend(team_of(isas[0], 1), qkv, heads, pages, whole, **kind)
        for isa in isas:
            for threads in (1, 2, 3):
                out = attention.attend(team_of(isa, threads), qkv, heads, pages, whole, **kind)
                assert_same_bits(out, expected, f"{isa}, {threads} threads")
            _assert_parts_agree(team_of(isa, 2), qkv, heads, pages, expected, kind, rng)


def _assert_parts_agree(
    team: Executor, qkv: np.ndarray, heads: Heads, pages: Pages, expected: np.ndarray,
    kind: dict[str, float], rng: np.random.Generator,
) -> None:  # fmt: skip
    """Assert that rows have the same bits in several spans of one step, on pages of any order."""
    order = rng.permutation(8)
    size = len(pages.packed()) // len(pages)
    raw = np.frombuffer(pages.packed(), np.uint8).reshape(-1, size)
    moved = type(pages).unpack(raw[np.argsort(order)].tobytes(), len(pages), heads)
    new_pages = order[[4, 1, 6]].tolist()
    cuts = [0, *sorted(rng.choice(np.arange(1, 140), 6, replace=False).tolist()), 140]
    pieces = list(pairwise(cuts))
    rng.shuffle(pieces)
    rows = np.concatenate([np.arange(begin, end) for begin, end in pieces])
    spans = [Span(new_pages, end - begin, begin) for begin, end in pieces]
    out = attention.attend(team, qkv[rows], heads, moved, spans, **kind)
    assert_same_bits(out, expected[rows], "in pieces")
    for row in (0, 63, 64, 139):
        alone = attention.attend(
            team, qkv[row : row + 1], heads, moved, [Span(new_pages, 1, row)], **kind
        )
        assert_same_bits(alone, expected[row : row + 1], f"row {row} alone")
