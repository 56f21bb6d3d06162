"""How long a step is expected to take: what each sentence of the estimator's contract says."""

import pytest

from tonnage.scheduler.step_time import StepTimeEstimator, most_rows


def seen(*steps: tuple[int, int]) -> StepTimeEstimator:
    """Return an estimator that has seen steps of (rows, nanoseconds), one after another."""
    estimator = StepTimeEstimator()
    for rows, elapsed_ns in steps:
        estimator.observe(rows, elapsed_ns)
    return estimator


def test_the_slowest_step_of_a_power_of_two_counts_and_fades_by_an_eighth() -> None:
    assert seen((64, 800), (64, 400)).step_ns(64) == 700
    assert seen((64, 800), (64, 400), (64, 400)).step_ns(64) == 613
    assert seen((64, 800), (64, 750)).step_ns(64) == 750
    # Rows of the same power of two: 8 to 15. What was seen of more rows counts for fewer.
    assert seen((12, 1200), (8, 1)).step_ns(8) == 700
    assert seen((8, 800), (12, 1)).step_ns(12) == 700
    # 7 and 8 rows are of different ones.
    assert seen((7, 700), (8, 1)).step_ns(7) == 700


def test_beyond_the_largest_step_time_grows_in_proportion() -> None:
    assert seen((4, 100)).step_ns(10) == 250
    assert seen((4, 100), (64, 640)).step_ns(128) == 1280


def test_before_the_smallest_step_its_time_is_believed() -> None:
    assert seen((64, 640)).step_ns(1) == 640
    assert StepTimeEstimator().step_ns(1) == 0


def test_between_two_steps_time_lies_on_the_line_and_never_falls() -> None:
    assert seen((4, 100), (64, 640)).step_ns(34) == 100 + 540 * 30 // 60
    assert seen((64, 640), (4, 100)).step_ns(34) == 100 + 540 * 30 // 60
    falling = seen((64, 640), (4, 100))
    assert falling.step_ns(64) == 640


@pytest.mark.parametrize("rows", [16, 31])
def test_a_short_step_bounds_longer_ones_from_above_in_proportion(rows: int) -> None:
    assert seen((64, 10_000), (rows, 100)).step_ns(64) == 100 * 64 // rows


def test_a_longer_step_takes_at_least_as_long_as_a_shorter_one() -> None:
    assert seen((64, 100), (8, 300)).step_ns(64) == 300


def test_a_clear_step_tells_what_rows_add() -> None:
    # 8 rows took 100 ns, 32 take 340: 10 for each row more, so 64 take 660 at least.
    assert seen((8, 100), (64, 500), (32, 340)).step_ns(64) == 660
    # With fewer than 32 rows, or none of a quarter of them, nothing is concluded.
    assert seen((7, 100), (64, 500), (31, 340)).step_ns(64) == 500
    assert seen((9, 100), (64, 500), (32, 340)).step_ns(64) == 500


def test_most_rows_within_a_limit() -> None:
    assert most_rows(lambda rows: 10 * rows, 100, 1, 512) == 10
    assert most_rows(lambda rows: 10 * rows, 109, 1, 512) == 10
    assert most_rows(lambda rows: 10 * rows, 5120, 1, 512) == 512
    assert most_rows(lambda rows: 10 * rows, 1, 3, 512) == 3
    assert most_rows(lambda rows: 10 * rows, 10_000, 3, 3) == 3
    assert most_rows(lambda rows: 10 * rows, 100, 1, 300) == 10


@pytest.mark.parametrize(
    ("steps", "rows", "expected"),
    [
        ([(7, 100)], 10, 142),
        ([(4, 100), (64, 645)], 35, 381),
        ([(7, 100), (4, 1)], 4, 50),
        ([(64, 10_000), (31, 100)], 64, 206),
        ([(8, 100), (64, 500), (33, 341)], 64, 639),
    ],
)
def test_times_are_whole_nanoseconds(
    steps: list[tuple[int, int]], rows: int, expected: int
) -> None:
    found = seen(*steps).step_ns(rows)
    assert (found, type(found)) == (expected, int)
