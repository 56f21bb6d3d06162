"""Seconds of a step by hand: a tiny model of two layers, width 128, and round made-up rates.

The sums of the model are those of test_forecast_work.py, the rates those of support.rates: 5e10
bytes/s and 4e11 multiply-adds/s on one thread, 1 us a call, 0.1 us an operation, 1e-10 s for an
element of a norm, 1e-10 s for a query and position of a page, 1e-11 s for a multiply-add of
attention, and 1e-9 s for each entry of the vocabulary that is sampled from.
"""

from dataclasses import replace

import pytest

from golden.regenerate import tiny_spec
from support.rates import made_up_rates
from tonnage.backends.cpu.layout.plan import make_plan
from tonnage.core.rates import Rates, TeamRates
from tonnage.core.workload import Workload
from tonnage.planner.cost.forecast import forecast, forecast_work, prefill_s, step_s
from tonnage.planner.cost.work import Work, work_of

RATES = made_up_rates()
VOCABULARY = 307
DOWN = 128 * 160
# Weights of both layers and the head, its 307 rows in whole panels of 32. Behind the last keys and
# values: output and MLP of the second layer, and the head.
EARLY = 2 * 512 * 128 + 128 * 256 + 3 * DOWN
LATE = 128 * 256 + 3 * DOWN + 320 * 128
OPERATIONS = 20  # embed, rope table, 7 products, 2 gated, 5 norms, 2 rope and 2 attention
CALL_S, OPERATION_S, ELEMENT_S = 1e-6, 1e-7, 1e-10
LOGITS_S = 2 * 4 * VOCABULARY / 5e10  # written, and read for sampling


def work(threads: int = 1, **changes: object) -> Work:
    """Return the sums of the model in bfloat16 with f16 pages."""
    return work_of(make_plan(tiny_spec("llama"), Workload(256, threads, **changes)))  # type: ignore[arg-type]


def attend_s(rows: int, position: int) -> float:
    """Return the seconds of four heads of 64 elements, K and V, in a layer on one thread.

    Of the last page whole sixteenths of 16, 32 or 64 positions are scored; up to 64 here.
    """
    end = position + rows
    scored = next(size for size in (16, 32, 64) if end <= size)
    return rows * 4 * (64 * 1e-10 + scored * 128 * 1e-11)


def test_one_row_reads_all_weights() -> None:
    expected = CALL_S + OPERATIONS * OPERATION_S + 5 * 128 * ELEMENT_S
    expected += 2 * (EARLY + LATE) / 5e10 + LOGITS_S + 2 * attend_s(1, 0)
    assert step_s(work(), RATES, 1, 0) == pytest.approx(expected, rel=1e-9)


def curves(team: TeamRates) -> TeamRates:
    """Return rates by which 32 rows of bfloat16 take 32 / 4e11 s per weight."""
    points = ((1, 5e10 / 2), (32, 4e11))
    return replace(team, products=tuple(replace(one, fresh=points) for one in team.products))


MANY_ROWS = replace(RATES, teams=tuple(curves(team) for team in RATES.teams))


def test_a_chunk_of_a_prompt_has_logits_of_its_last_row_alone() -> None:
    """32 rows multiply for longer than they wait; one row goes on behind the last keys."""
    expected = CALL_S + OPERATIONS * OPERATION_S
    expected += (32 * 3 + 2) * 128 * ELEMENT_S  # the second norm of the last layer, and the end
    expected += 32 * EARLY / 4e11 + 2 * LATE / 5e10 + LOGITS_S
    expected += attend_s(32, 0) + attend_s(1, 31)
    found = step_s(work(), MANY_ROWS, 32, 0, sequences=1, logit_rows=1)
    assert found == pytest.approx(expected, rel=1e-9)
    assert prefill_s(work(), MANY_ROWS, 32) == pytest.approx(expected, rel=1e-9)


def test_a_chunk_before_the_last_has_no_logits() -> None:
    """What is behind the last keys and values is not computed, and no logits are written."""
    expected = CALL_S + OPERATIONS * OPERATION_S + 32 * 3 * 128 * ELEMENT_S
    expected += 32 * EARLY / 4e11 + attend_s(32, 0)
    found = step_s(work(), MANY_ROWS, 32, 0, sequences=1, logit_rows=0)
    assert found == pytest.approx(expected, rel=1e-9)


def test_a_prompt_is_the_sum_of_its_chunks() -> None:
    chunked = work(max_rows=32)
    chunks = ((32, 0, 0), (32, 32, 0), (6, 64, 1))
    expected = sum(
        step_s(chunked, RATES, rows, 100 + at, sequences=1, logit_rows=ends)
        for rows, at, ends in chunks
    )
    assert prefill_s(chunked, RATES, 70, position=100) == pytest.approx(expected, rel=1e-9)


def test_rows_of_several_sequences_read_their_own_pages() -> None:
    """Each has 512 bytes of keys and values per position and layer, at 1e-12 s a byte.

    And every head of every sequence has pages of its own to turn to, 1e-7 s for each of them.
    """
    near = {rows: step_s(work(), RATES, rows, 0) for rows in (1, 2)}
    far = {rows: step_s(work(), RATES, rows, 15) for rows in (1, 2)}
    for rows in (1, 2):
        reading = rows * 2 * (15 * 512 * 1e-12)
        visits = rows * 2 * 2 * 1e-7
        assert far[rows] - near[rows] == pytest.approx(reading + visits, rel=1e-6)


def test_rows_are_dealt_out_whole_to_threads() -> None:
    """Three rows on two threads take as long as four: one thread norms two of them."""
    counted = replace(RATES, teams=tuple(only_norms(team) for team in RATES.teams))
    times = [step_s(work(2), counted, rows, 0) for rows in (1, 2, 3, 4)]
    assert times[0] == pytest.approx(times[1], rel=1e-9)
    assert times[2] == pytest.approx(times[3], rel=1e-9)
    assert times[2] - times[0] == pytest.approx(5 * 128 * ELEMENT_S, rel=1e-6)


def only_norms(team: TeamRates) -> TeamRates:
    """Return rates by which norms alone take time."""
    free = tuple(replace(one, pair_s=0.0, mac_s=0.0) for one in team.attend)
    fast = tuple(replace(one, fresh=((1, 1e30),), cached=((1, 1e30),)) for one in team.products)
    return replace(
        team, attend=free, products=fast, read_bytes_per_s=1e30, element_s=(("norm", ELEMENT_S),)
    )


def test_elements_of_heads_are_shared_evenly() -> None:
    """A row has (4 + 2 + 2) heads of 64 elements to rotate and store, in both layers."""
    timed = tuple(
        replace(only_norms(team), element_s=(("rope_kv_write f16", 1e-9),)) for team in RATES.teams
    )
    times = [step_s(work(2), replace(RATES, teams=timed), rows, 0) for rows in (1, 2)]
    assert times[1] - times[0] == pytest.approx(2 * 8 * 64 * 1e-9 / 2, rel=1e-6)


def test_what_is_done_with_sums_hides_the_wait_for_the_memory() -> None:
    """While results of products are worked on, the next weights come.

    Multiplied at once they would take 1 / 4e11 s each, of the 2 / 5e10 s that reading takes.
    """
    base = step_s(work(), RATES, 1, 0)
    written, gated = 2 * 512 + 4 * 128 + VOCABULARY, 2 * 160
    for results, op in ((written, "matmul"), (gated, "gated silu")):
        little = with_element(op, 1e-12)
        assert step_s(work(), little, 1, 0) == pytest.approx(base, rel=1e-9)
        much = with_element(op, 1e-3)
        multiplied = (EARLY + LATE) / 4e11
        if op == "matmul":  # each product of the model writes with it
            expected = base - 2 * (EARLY + LATE) / 5e10 + multiplied + results * 1e-3
            assert step_s(work(), much, 1, 0) == pytest.approx(expected, rel=1e-9)
        else:
            assert step_s(work(), much, 1, 0) > results * 1e-3


def with_element(op: str, seconds: float) -> Rates:
    """Return rates by which an element of `op` takes so long on each thread."""
    teams = tuple(replace(team, element_s=(*team.element_s, (op, seconds))) for team in RATES.teams)
    return replace(RATES, teams=teams)


def test_between_two_measured_teams_the_speed_is_between() -> None:
    """Two threads of teams of one and three have the mean of both speeds; four are as three."""
    one, three = RATES.teams[0], replace(RATES.teams[1], threads=3)
    both = replace(RATES, teams=(one, three))
    for threads, share in ((1, 0.0), (2, 0.5), (3, 1.0), (4, 1.0)):
        low, high = (
            1 / step_s(work(threads), replace(RATES, teams=(team,)), 1, 0) for team in (one, three)
        )
        expected = low + (high - low) * share
        assert 1 / step_s(work(threads), both, 1, 0) == pytest.approx(expected, rel=1e-9)


def test_fewer_threads_than_were_measured_are_as_the_smallest_team() -> None:
    two, four = RATES.teams[1], replace(RATES.teams[1], threads=4, call_s=1.0)
    found = step_s(work(1), replace(RATES, teams=(two, four)), 1, 0)
    assert found == step_s(work(1), replace(RATES, teams=(two,)), 1, 0) < 0.1


def test_weights_and_pages_share_a_cache() -> None:
    """A cache for half of what a step reads saves half of what one for all of it would."""
    pages = 3 * 2 * 101 * 512  # of three sequences, in both layers, at position 100
    read_bytes = 2 * (EARLY + LATE) + pages
    whole, half, none = (
        step_s(work(), made_up_rates(cached_bytes=size), 3, 100)
        for size in (read_bytes, read_bytes // 2, 0)
    )
    assert whole < half < none
    assert half == pytest.approx((whole + none) / 2, rel=1e-6)
    assert step_s(work(), made_up_rates(cached_bytes=2 * read_bytes), 3, 100) == whole
    assert step_s(work(), made_up_rates(cached_bytes=read_bytes - 4096), 3, 100) > whole


def test_a_completion_samples_from_every_entry_of_the_vocabulary() -> None:
    plan = make_plan(tiny_spec("llama"), Workload(256, 1))
    for rows in (1, 3):
        found = forecast(plan, RATES, rows=rows, position=20, prompt_tokens=40)
        each = (step_s(work(), RATES, rows, 20) + rows * VOCABULARY * 1e-9) / rows
        assert 1 / found.decode_tokens_per_s == pytest.approx(each, rel=1e-9)
        first = prefill_s(work(), RATES, 40)
        assert found.prefill_tokens_per_s == pytest.approx(40 / first, rel=1e-9)
        sampled = first + VOCABULARY * 1e-9
        assert found.time_to_first_token_ns == pytest.approx(1e9 * sampled, abs=1)
        assert (found.rows, found.position, found.prompt_tokens) == (rows, 20, 40)


def test_a_forecast_is_of_one_completion_unless_told() -> None:
    plan = make_plan(tiny_spec("llama"), Workload(256, 1))
    assert forecast(plan, RATES) == forecast(plan, RATES, rows=1)
    assert forecast_work(work(), RATES) == forecast(plan, RATES)


def test_pages_are_read_as_weights_are() -> None:
    """100 sequences at position 255 read 26 MB of pages, which takes longer than multiplying."""
    light = replace(RATES, teams=tuple(replace(team, attend=free(team)) for team in RATES.teams))
    plan = make_plan(tiny_spec("llama"), Workload(256, 1))
    assert forecast(plan, light, rows=100, position=255).bottleneck == "memory"
    assert forecast(plan, light, rows=100, position=0).bottleneck == "compute"


def test_without_a_position_a_completion_begins_behind_the_prompt() -> None:
    plan = make_plan(tiny_spec("llama"), Workload(256, 1))
    assert forecast(plan, RATES, prompt_tokens=40).position == 40
    assert forecast(plan, RATES).prompt_tokens == 255, "the context has room for one token more"
    assert forecast(plan, RATES, prompt_tokens=0).prompt_tokens == 1


@pytest.mark.parametrize(
    ("rates", "rows", "expected"),
    [
        (RATES, 1, "memory"),
        (replace(RATES, teams=tuple(replace(t, call_s=1e-3) for t in RATES.teams)), 1, "overhead"),
        (RATES, 200, "compute"),
    ],
)
def test_the_bottleneck_is_what_most_of_a_step_goes_to(
    rates: Rates, rows: int, expected: str
) -> None:
    """Reading takes 14 us of one row, the rest 3; 200 rows multiply for 90 us."""
    light = replace(rates, teams=tuple(replace(t, attend=free(t)) for t in rates.teams))
    plan = make_plan(tiny_spec("llama"), Workload(256, 1))
    assert forecast(plan, light, rows=rows, position=0).bottleneck == expected


def free(team: TeamRates) -> tuple[object, ...]:
    """Return rates of attention that takes no time."""
    return tuple(replace(one, pair_s=0.0, mac_s=0.0) for one in team.attend)
