"""Row-wise ops: RMSNorm after an addition, rotary tables, rotation and storing of K and V."""

from collections.abc import Callable
from dataclasses import replace

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

from kernel_ops import attention, oracles, wrappers
from kernel_ops.arena import Span
from kernel_ops.attention import Heads, Pages, Rotation
from tonnage._native import Executor
from tonnage.core.rope import RopeSpec

Team = Callable[[int], Executor]
TeamOf = Callable[[str, int], Executor]
EPS = float(np.float32(1e-6))


def norm_bound(cols: int, result: np.ndarray) -> np.ndarray:
    """Return the bound of a norm: half the roundings of the mean square, then six more.

    The sum of squares is four chains of cols / 64 fused multiply-adds on 16 lanes, and six levels
    of additions.
    """
    return GROWTH * U * ((cols / 64 + 1 + 6) / 2 + 6) * np.abs(result) + TINY


@pytest.mark.parametrize("cols", [32, 64, 96, 576, 1056, 1, 15, 17, 48, 560, 2015])
def test_norm(team: Team, cols: int, rng: np.random.Generator) -> None:
    for num_rows in (1, 2, 9, 33):
        x = (rng.standard_normal((num_rows, cols)) * 10.0 ** rng.integers(-6, 7)).astype(np.float32)
        weight = rng.standard_normal(cols).astype(np.float32)
        out = wrappers.norm(team(1 + num_rows % 3), x, weight, EPS)
        exact = oracles.rmsnorm(x, weight, EPS)
        assert_within(out.values, exact, norm_bound(cols, exact))
        assert_same_bits(out.x, x, "x")
        coded = wrappers.quantize(team(1), out.values)
        assert_same_bits(out.acts.scales, coded.scales, "scales")
        assert (out.acts.codes == coded.codes).all()


def test_norm_of_zeros_is_zero(team: Team) -> None:
    out = wrappers.norm(team(1), np.zeros((1, 64), np.float32), np.ones(64, np.float32), EPS)
    assert not out.values.any()
    assert not out.acts.codes.any()


@pytest.mark.parametrize("gather", [None, [3], [0, 2, 8]])
def test_post_norm_is_added_first(
    team: Team, gather: list[int] | None, rng: np.random.Generator
) -> None:
    x, branch = (rng.standard_normal((9, 96)).astype(np.float32) for _ in range(2))
    weight, gain = (rng.standard_normal(96).astype(np.float32) for _ in range(2))
    out = wrappers.norm(team(2), x, weight, EPS, added=(branch, gain), gather=gather)
    rows = list(range(9)) if gather is None else gather
    total = oracles.add_norm(x, branch, gain, EPS)[rows]
    bound = norm_bound(96, total - x[rows]) + U * np.abs(total)
    assert_within(out.x[rows], total, bound)
    untouched = [row for row in range(9) if row not in rows]
    assert_same_bits(out.x[untouched], x[untouched], "rows that were not asked for")
    exact = oracles.rmsnorm(out.x[rows], weight, EPS)
    assert_within(out.values, exact, norm_bound(96, exact))


@pytest.mark.parametrize("gather", [None, [3], [0, 2, 8]])
@pytest.mark.parametrize("with_branch", [False, True])
def test_no_weight_gives_x_as_it_is(
    team: Team, with_branch: bool, gather: list[int] | None, rng: np.random.Generator
) -> None:
    x, branch = (rng.standard_normal((9, 96)).astype(np.float32) for _ in range(2))
    weight, gain = (rng.standard_normal(96).astype(np.float32) for _ in range(2))
    added = (branch, gain) if with_branch else None
    out = wrappers.norm(team(2), x, None, EPS, added=added, gather=gather)
    rows = list(range(9)) if gather is None else gather
    normed = wrappers.norm(team(1), x, weight, EPS, added=added, gather=gather)
    assert_same_bits(out.x, normed.x, "x")
    assert_same_bits(out.values, out.x[rows], "values")
    coded = wrappers.quantize(team(1), out.values)
    assert_same_bits(out.acts.scales, coded.scales, "scales")
    assert (out.acts.codes == coded.codes).all()


@pytest.mark.parametrize("cols", [544, 553])
def test_norm_bits_depend_on_nothing_but_the_row(
    isas: list[str], team_of: TeamOf, cols: int, rng: np.random.Generator
) -> None:
    x, branch = (rng.standard_normal((33, cols)).astype(np.float32) for _ in range(2))
    weight, gain = (rng.standard_normal(cols).astype(np.float32) for _ in range(2))
    expected = wrappers.norm(team_of(isas[0], 1), x, weight, EPS, added=(branch, gain))
    for isa in isas:
        for num_rows, threads in ((1, 1), (4, 3), (33, 2)):
            rows = rng.permutation(33)[:num_rows]
            out = wrappers.norm(
                team_of(isa, threads), x[rows], weight, EPS, added=(branch[rows], gain)
            )
            assert_same_bits(out.values, expected.values[rows], isa)
            assert_same_bits(out.x, expected.x[rows], isa)


def chained(rows: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Return `start` with one row after the other added in float64."""
    total = start.copy()
    for row in rows:
        total += row.astype(np.float64)
    return total


@pytest.mark.parametrize("cols", [32, 96, 544, 7, 560])
@pytest.mark.parametrize("with_branch", [False, True])
def test_pool_adds_up_what_the_norm_gives(
    team: Team, cols: int, with_branch: bool, rng: np.random.Generator
) -> None:
    x, branch = (rng.standard_normal((33, cols)).astype(np.float32) for _ in range(2))
    weight, gain = (rng.standard_normal(cols).astype(np.float32) for _ in range(2))
    added = (branch, gain) if with_branch else None
    normed = wrappers.norm(team(1), x, weight, EPS, added=added)
    before = rng.standard_normal((4, cols))
    pooled = [(0, 7, 2, True), (9, 1, 0, False), (12, 21, 3, False)]
    sums = wrappers.pool_hidden(
        team(1 + cols // 32 % 3), x, weight, EPS, pooled, before, added=added
    )
    expected = before.copy()
    for first, count, slot, begins in pooled:
        start = np.zeros(cols) if begins else before[slot]
        expected[slot] = chained(normed.values[first : first + count], start)
    assert (sums.view(np.uint64) == expected.view(np.uint64)).all()
    exact = oracles.pool(normed.x[:7], weight, EPS)
    sizes = np.abs(oracles.rmsnorm(normed.x[:7], weight, EPS)).sum(axis=0)
    # Of sums of 7 the roundings are float64's, so the norm's own are all that counts.
    assert_within(sums[2], exact, norm_bound(cols, sizes) + 8 * 2.0**-52 * sizes)


@pytest.mark.parametrize("cols", [544, 553])
def test_pooled_bits_depend_on_the_rows_alone(
    isas: list[str], team_of: TeamOf, cols: int, rng: np.random.Generator
) -> None:
    x = rng.standard_normal((40, cols)).astype(np.float32)
    weight = rng.standard_normal(cols).astype(np.float32)
    nothing = np.zeros((1, cols))
    args = (x, weight, EPS, [(0, 40, 0, True)], nothing)
    expected = wrappers.pool_hidden(team_of(isas[0], 1), *args)
    for isa in isas:
        for sizes in ((40,), (1, 33, 6), (3,) * 13 + (1,)):
            sums, begin = nothing, 0
            for size in sizes:
                part = x[begin : begin + size]
                pooled = [(0, size, 0, begin == 0)]
                sums = wrappers.pool_hidden(
                    team_of(isa, 1 + size % 3), part, weight, EPS, pooled, sums
                )
                begin += size
            assert (sums.view(np.uint64) == expected.view(np.uint64)).all(), (isa, sizes)


def spans_of(positions: list[tuple[int, int]], rng: np.random.Generator) -> list[Span]:
    """Return spans of (position, num_rows) on pages of their own, in random order."""
    spans, free = [], 0
    for position, num_rows in positions:
        pages = scattered(position + num_rows, rng, free)
        free += len(pages)
        spans.append(Span(pages, num_rows, position))
    return spans


def test_rope_table(isas: list[str], team_of: TeamOf, rng: np.random.Generator) -> None:
    frequencies = np.array(RopeSpec(80, 10000.0).inverse_frequencies(), np.float32)
    spans = spans_of([(0, 3), (63, 2), (131071, 1)], rng)
    exact = oracles.rope_table(frequencies, spans)
    expected = attention.rope_table(team_of(isas[0], 1), frequencies, spans)
    # The angle is exact in float64 (24 + 31 bits round once), and so is the cosine, but for u.
    assert_within(expected, exact, GROWTH * U + 131072 * 2.0**-52)
    for isa in isas:
        table = attention.rope_table(team_of(isa, 3), frequencies, spans)
        assert_same_bits(table, expected, isa)
        # The scale is a float32, the product a float64 that rounds once.
        scaled = attention.rope_table(team_of(isa, 3), frequencies, spans, scale=1.1875)
        assert_within(scaled, 1.1875 * exact, 2 * GROWTH * U + 131072 * 2.0**-51)


HEADS = (
    Heads(4, 2, 64, 64), Heads(3, 1, 80, 80), Heads(2, 2, 96, 96), Heads(5, 1, 128, 64),
    Heads(4, 4, 16, 48), Heads(2, 1, 256, 256), Heads(1, 1, 512, 512), Heads(6, 2, 80, 16),
    Heads(3, 1, 100, 100), Heads(4, 2, 8, 8), Heads(6, 3, 24, 100), Heads(1, 1, 2, 511),
    Heads(5, 1, 34, 7),
)  # fmt: skip


@pytest.mark.parametrize("heads", HEADS, ids=str)
def test_qk_norm(isas: list[str], team_of: TeamOf, heads: Heads, rng: np.random.Generator) -> None:
    qkv = rng.standard_normal((7, heads.qkv_cols)).astype(np.float32)
    qkv *= 10.0 ** np.arange(-6, 8, 2)[:, None].astype(np.float32)
    sizes = (heads.num_heads * heads.k_dim, heads.num_kv_heads * heads.k_dim)
    gains = tuple(rng.standard_normal(size).astype(np.float32) for size in sizes)
    exact = oracles.qk_norm(qkv, heads, *gains, EPS)
    expected = attention.qk_norm(team_of(isas[0], 1), qkv, heads, *gains, EPS)
    assert_within(expected, exact, norm_bound(max(sizes), exact))
    values = slice(sum(sizes), None)
    assert_same_bits(expected[:, values], qkv[:, values], "values")
    for isa in isas:
        for num_rows, threads in ((1, 1), (1, 3), (7, 2), (5, 4)):
            out = attention.qk_norm(team_of(isa, threads), qkv[:num_rows], heads, *gains, EPS)
            assert_same_bits(out, expected[:num_rows], isa)


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("normed", [False, True])
@pytest.mark.parametrize("heads", HEADS, ids=str)
def test_rope_kv_write(
    team: Team, heads: Heads, normed: bool, interleaved: bool, rng: np.random.Generator
) -> None:
    spans = spans_of([(0, 3), (62, 5), (200, 1)], rng)
    partial = heads.k_dim // 2 if heads.num_heads == 5 else heads.k_dim
    frequencies = np.array(RopeSpec(partial, 10000.0).inverse_frequencies(), np.float32)
    table = attention.rope_table(team(1), frequencies, spans)
    gains = [rng.standard_normal(heads.k_dim).astype(np.float32) if normed else None for _ in "qk"]
    rotation = Rotation(table, *gains, EPS, float(np.float32(0.3)), interleaved)
    qkv = rng.standard_normal((9, heads.qkv_cols)).astype(np.float32)
    out, pages = attention.rope_kv_write(
        team(1 + heads.k_dim // 16 % 3), qkv, heads, rotation, spans
    )
    q, k, v = oracles.rope(qkv, heads, rotation)
    new_q, new_k, _ = heads.split(out)
    # Per element of a rotated pair: the norm, then a product, a product and a sum, then the scale.
    size = 4 * (1 if not normed else norm_bound(heads.k_dim, np.ones(1))[0] / U + 1)
    assert_within(new_q, q, GROWTH * U * size * np.abs(q).max(axis=2, keepdims=True) * 2)
    assert_within(new_k, k, GROWTH * U * size * np.abs(k).max(axis=2, keepdims=True) * 2)
    row = 0
    for span in spans:
        keys, values = (part[span.position :] for part in pages.of(span))
        mine = slice(row, row + span.num_rows)
        assert (keys == new_k[mine].astype(np.float16)).all()
        assert (values == v[mine].astype(np.float16)).all()
        row += span.num_rows


def assert_hadamard_rotated(
    qkv: np.ndarray, out: np.ndarray, heads: Heads, rotation: Rotation
) -> None:
    """Assert that q is rotated, and k and v are what int8 pages need, k without its bias."""
    exact = oracles.rope_int8(qkv, heads, rotation)
    bounds = rotation_bounds(qkv, heads, rotation)
    for new, right, bound in zip(heads.split(out), exact, bounds, strict=True):
        assert_within(new, right, bound)


def rotation_bounds(
    qkv: np.ndarray, heads: Heads, rotation: Rotation
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return how far q, k and v may lie from `oracles.rope_int8`.

    An element of a rotated pair rounds 8 times, as in `test_rope_kv_write`, and k once with its
    bias.
    """
    q, k, v = (np.abs(part) for part in oracles.rope(qkv, heads, rotation))
    q_off, k_off = (8 * U * part.max(axis=2, keepdims=True) + 0 * part for part in (q, k))
    k_parts = k if rotation.k_bias is None else k + np.abs(rotation.k_bias)
    k_off, k_parts, v = (oracles.whole(part) for part in (k_off + U * k_parts, k_parts, v))
    k_factor, v_factor = (oracles.hadamard_factors(part.shape[2])[0] for part in (k_parts, v))
    bounds = (
        q_off, hadamard_bound(k_off, k_parts, k_factor), hadamard_bound(0 * v, v, v_factor)
    )  # fmt: skip
    q_bound, k_bound, v_bound = (GROWTH * bound + TINY for bound in bounds)
    return q_bound, k_bound, v_bound


def assert_codes_are_near(
    qkv: np.ndarray, heads: Heads, rotation: Rotation, pages: Pages, spans: list[Span]
) -> None:
    """Assert that int8 pages hold keys and values of heads with zeros behind them."""
    _, *exact = oracles.rope_int8(qkv, heads, rotation)
    _, *bounds = rotation_bounds(qkv, heads, rotation)
    row = 0
    for span in spans:
        mine = slice(row, row + span.num_rows)
        for right, bound, got in zip(exact, bounds, pages.of(span), strict=True):
            wide = np.clip(right[mine], -65504, 65504)
            # Half a step of the code, and what the scale itself was rounded by.
            steps = np.abs(wide).max(axis=2, keepdims=True) / 127
            off = bound[mine].max(axis=2, keepdims=True)
            limit = 1.001 * (steps / 2 + off) + 127 * (steps * 2.0**-11 + 2.0**-25)
            assert_within(got[span.position :], wide, limit)
        row += span.num_rows


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("heads", HEADS, ids=str)
def test_rope_kv_write_stores_codes(
    team: Team, heads: Heads, interleaved: bool, rng: np.random.Generator
) -> None:
    spans = spans_of([(0, 3), (62, 5), (200, 1)], rng)
    pairs = heads.k_dim // 4 if heads.num_heads == 5 else heads.k_dim // 2
    table = rng.uniform(-1, 1, (9, 2, pairs)).astype(np.float32)
    qkv = rng.standard_normal((9, heads.qkv_cols)).astype(np.float32)
    qkv *= 10.0 ** np.arange(-8, 10, 2)[:, None].astype(np.float32)
    qkv[3] = 0
    bias = 100 * rng.standard_normal((heads.num_kv_heads, heads.k_dim)).astype(np.float32)
    low_from = int(rng.integers(0, table.shape[2] + 1))
    rotation = Rotation(table, None, None, EPS, 0.3, interleaved, bias, low_from)
    num_threads = 1 + heads.k_dim // 16 % 3
    out, pages = attention.rope_kv_write(team(num_threads), qkv, heads, rotation, spans, "int8")
    if not heads.lie_whole:
        assert_codes_are_near(qkv, heads, rotation, pages, spans)
        return
    assert_hadamard_rotated(qkv, out, heads, rotation)
    _, new_k, new_v = heads.split(out)
    row = 0
    for span in spans:
        for part, new, got in zip(
            (pages.keys, pages.values), (new_k, new_v), pages.of(span), strict=True
        ):
            mine = new[row : row + span.num_rows]
            coded = oracles.kv_codes(mine)
            for i, at in enumerate(range(span.position, span.position + span.num_rows)):
                page = span.pages[at // 64]
                assert (part.codes[page, :, at % 64] == coded.codes[i]).all()
                assert (part.scales[page, :, at % 64] == coded.scales[i]).all()
            wide = np.clip(mine, -65504, 65504).astype(np.float64)
            # Half a step where the scale is a normal float16; a subnormal one is off itself.
            bound = coded.scales[..., None] * (0.5 + 1e-4) + 127 * 2.0**-25
            assert_within(got[span.position :], wide, bound)
        row += span.num_rows


@pytest.mark.parametrize("kv_format", ["f16", "int8"])
def test_no_pairs_give_the_bits_of_angles_of_zero(
    isas: list[str], team_of: TeamOf, kv_format: str, rng: np.random.Generator
) -> None:
    heads = Heads(4, 2, 80, 48)
    spans = spans_of([(0, 3), (62, 5)], rng)
    qkv = rng.standard_normal((8, heads.qkv_cols)).astype(np.float32)
    gain = rng.standard_normal(80).astype(np.float32)
    bias = rng.standard_normal((2, 80)).astype(np.float32) if kv_format == "int8" else None
    still = np.stack([np.ones((8, 40)), np.zeros((8, 40))], axis=1).astype(np.float32)
    for norms in ((None, None), (gain, gain)):
        turned = Rotation(still, *norms, EPS, 0.3, False, bias)
        expected, pages = attention.rope_kv_write(
            team_of(isas[0], 1), qkv, heads, turned, spans, kv_format
        )
        unturned = replace(turned, table=still[:, :, :0])
        for isa in isas:
            out, own = attention.rope_kv_write(
                team_of(isa, 3), qkv, heads, unturned, spans, kv_format
            )
            assert_same_bits(out, expected, isa)
            assert own.packed() == pages.packed(), isa


@pytest.mark.parametrize("kv_format", ["f16", "int8"])
def test_rope_kv_write_writes_only_its_positions(
    team: Team, kv_format: str, rng: np.random.Generator
) -> None:
    heads = Heads(2, 1, 32, 48)
    spans = [Span([1], 2, 17), Span([2, 0], 1, 64)]
    table = np.stack([np.ones((3, 16)), np.zeros((3, 16))], axis=1).astype(np.float32)
    qkv = rng.uniform(1, 2, (3, heads.qkv_cols)).astype(np.float32)
    _, pages = attention.rope_kv_write(team(2), qkv, heads, Rotation(table), spans, kv_format)
    if kv_format == "f16":
        parts = [pages.keys != 0, pages.values != 0]
    else:
        # A page of zero bytes has codes of -128.
        parts = [pages.keys.codes != -128, pages.values.codes != -128]
        parts += [pages.keys.scales[..., None] != 0, pages.values.scales[..., None] != 0]
    for part in parts:
        written = np.argwhere(part.any(axis=(1, 3)))
        assert written.tolist() == [[0, 0], [1, 17], [1, 18]]


@pytest.mark.parametrize("heads", [Heads(5, 1, 128, 64), Heads(5, 1, 130, 7)], ids=str)
@pytest.mark.parametrize("kv_format", ["f16", "int8"])
def test_rope_kv_write_bits_agree_on_all_instruction_sets(
    isas: list[str], team_of: TeamOf, kv_format: str, heads: Heads, rng: np.random.Generator
) -> None:
    spans = spans_of([(0, 3), (62, 5)], rng)
    gain = rng.standard_normal(heads.k_dim).astype(np.float32)
    qkv = rng.standard_normal((8, heads.qkv_cols)).astype(np.float32)
    qkv[0] *= 1e-6  # subnormal halves
    qkv[1] *= 1e6  # infinite ones
    table = rng.uniform(-1, 1, (8, 2, heads.k_dim // 2)).astype(np.float32)
    for norms in ((None, None), (gain, gain)):
        rotation = Rotation(table, *norms, EPS, 0.3)
        args = (qkv, heads, rotation, spans, kv_format)
        expected, pages = attention.rope_kv_write(team_of(isas[0], 1), *args)
        for isa in isas:
            out, own = attention.rope_kv_write(team_of(isa, 2), *args)
            assert_same_bits(out, expected, isa)
            assert own.packed() == pages.packed(), isa


def test_rope_kv_write_stores_what_f16_cannot_hold_as_its_largest(team: Team) -> None:
    heads = Heads(1, 1, 16, 16)
    spans = [Span([0], 1, 0)]
    table = np.stack([np.ones((1, 8)), np.zeros((1, 8))], axis=1).astype(np.float32)
    qkv = np.full((1, heads.qkv_cols), 1e6, np.float32)
    qkv[0, 20:40] = -1e6
    _, pages = attention.rope_kv_write(team(1), qkv, heads, Rotation(table), spans)
    keys, values = pages.of(spans[0])
    assert (keys[0].ravel() == np.where(qkv[0, 16:32] > 0, 65504, -65504)).all()
    assert (values[0].ravel() == np.where(qkv[0, 32:] > 0, 65504, -65504)).all()
