"""Figures of an audit against formulas in float64, on made-up logits and chunks."""

import math

import numpy as np
import pytest

from tonnage.core.errors import LogitsError
from tonnage.core.quality import Estimate
from tonnage.quality.interval import exponential, mean_interval, quantile, student_t_975
from tonnage.quality.rows import Row

EPS = np.finfo(np.float64).eps


def logits(seed: int, size: int = 1000) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 5, size).astype(np.float32)


def row_of(data: bytes) -> Row:
    return Row.of(data, "the model")


def log_softmax(values: np.ndarray) -> np.ndarray:
    exact = values.astype(np.longdouble)
    return exact - exact.max() - np.log(np.exp(exact - exact.max()).sum())


def test_negative_log_likelihood_of_a_token():
    values = logits(1)
    row, exact = row_of(values.tobytes()), -log_softmax(values)
    bound = 4 * len(values) * EPS
    for token in range(len(values)):
        assert row.negative_log_likelihood(token) == pytest.approx(
            float(exact[token]), rel=bound, abs=bound
        )


def test_divergence_is_the_sum_over_the_vocabulary():
    ours, theirs = logits(1), logits(2)
    p, q = log_softmax(theirs), log_softmax(ours)
    exact = float((np.exp(p) * (p - q)).sum())
    found = row_of(ours.tobytes()).divergence_from(row_of(theirs.tobytes()))
    assert found == pytest.approx(exact, rel=4 * len(ours) * EPS)
    back = row_of(theirs.tobytes()).divergence_from(row_of(ours.tobytes()))
    assert abs(back - found) > 0.01, "the order of the two matters"


@pytest.mark.parametrize("seed", range(20))
def test_divergence_from_itself_is_exactly_zero(seed):
    data = logits(seed).tobytes()
    assert row_of(data).divergence_from(row_of(data)) == 0.0


def test_a_hair_of_difference_is_seen_and_never_negative():
    values = logits(3)
    other = values.copy()
    other[5] = np.nextafter(other[5], np.float32(np.inf))
    found = row_of(other.tobytes()).divergence_from(row_of(values.tobytes()))
    assert 0 <= found < 1e-12


def test_the_likeliest_is_the_first_of_equals():
    assert row_of(np.array([1, 7, 7, 2], np.float32).tobytes()).top == 1


def test_logits_far_apart_do_not_overflow():
    row = row_of(np.array([-3e38, 0, 3e38], np.float32).tobytes())
    assert row.negative_log_likelihood(2) == 0
    assert math.isfinite(row.negative_log_likelihood(0))


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_logit_that_is_not_finite_is_an_error(wrong):
    with pytest.raises(LogitsError, match="the model: a logit is not finite"):
        row_of(np.array([0, wrong, 1], np.float32).tobytes())


# Tables of Student's t.
@pytest.mark.parametrize(
    ("degrees", "exact"),
    [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (9, 2.2622), (19, 2.0930), (99, 1.9842)],
)
def test_student_t(degrees, exact):
    assert student_t_975(degrees) == pytest.approx(exact, rel=2e-3)


@pytest.mark.parametrize("num_chunks", [2, 3, 8, 20])
def test_the_interval_of_independent_chunks_holds_the_truth_in_95_of_100_texts(num_chunks):
    rng = np.random.default_rng(num_chunks)
    num_texts, truth = 4000, 9.0
    # Tokens of a chunk share what makes the chunk hard: an interval from tokens would be too short.
    chunk_means = truth + rng.normal(0, 1, (num_texts, num_chunks, 1))
    tokens = chunk_means + rng.normal(0, 2, (num_texts, num_chunks, 50))
    held = 0
    for text in tokens:
        found = mean_interval(text.mean(axis=1).tolist())
        assert found.value == pytest.approx(text.mean())
        held += found.low <= truth <= found.high
    five_sigma = 5 * math.sqrt(0.95 * 0.05 / num_texts)
    assert held / num_texts == pytest.approx(0.95, abs=five_sigma)


def test_one_chunk_has_no_interval():
    assert mean_interval([2.5]) == Estimate(2.5, None, None)
    assert exponential(Estimate(0.0, None, None)) == Estimate(1.0, None, None)


def test_an_interval_ends_at_zero():
    assert mean_interval([0.0, 1.0]).low == 0.0
    assert exponential(mean_interval([0.0, 1.0])).low == 1.0


def test_a_perplexity_beyond_numbers_is_infinite():
    assert exponential(Estimate(1e6, 1.0, 1e6)) == Estimate(math.inf, math.e, math.inf)


@pytest.mark.parametrize("count", [1, 2, 7, 1000])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.999, 1.0])
def test_quantile_is_numpys(count, share):
    values = logits(count, count).astype(np.float64)
    assert quantile(values.tolist(), share) == pytest.approx(np.quantile(values, share), rel=1e-12)
