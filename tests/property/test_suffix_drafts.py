"""Drafts from the text: the search against a naive one, and what is drafted against its price."""

from array import array
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tonnage.core.drafts import Growing
from tonnage.speculation.acceptance import Acceptance, expected_tokens, grade
from tonnage.speculation.prices import StepPrices
from tonnage.speculation.speculation import MOST_DRAFTS, Speculation
from tonnage.speculation.suffix import LONGEST, SHORTEST, continuation, latest_match

# Ids whose bytes may match within tokens.
IDS = st.sampled_from([0, 1, 256, 257, 65_536, 16_777_216])
TEXTS = st.lists(IDS, max_size=60) | st.lists(st.integers(0, 3), max_size=60)


def naive(tokens: list[int]) -> tuple[int, int] | None:
    """Return where the last LONGEST tokens, else the last SHORTEST, ended before; and how many."""
    for length in (LONGEST, SHORTEST):
        for end in range(len(tokens) - 1, length - 1, -1):
            if tokens[end - length : end] == tokens[len(tokens) - length :]:
                while (
                    length < min(LONGEST, end)
                    and tokens[end - length - 1] == tokens[len(tokens) - length - 1]
                ):
                    length += 1
                return end, length
    return None


@given(TEXTS)
def test_the_search_is_the_naive_one(tokens: list[int]) -> None:
    found = latest_match(array("i", tokens))
    assert (None if found is None else (found.end, found.length)) == naive(tokens)


@given(TEXTS, st.integers(1, 40))
def test_a_text_goes_on_as_it_did(tokens: list[int], count: int) -> None:
    text = array("i", tokens)
    match = latest_match(text)
    if match is None:
        return
    whole = list(tokens)
    for number in range(count):
        whole.append(whole[match.end + number])
    assert list(continuation(text, match, count)) == whole[len(tokens) :]


@given(st.lists(st.tuples(st.integers(0, 8), st.booleans()), max_size=50))
def test_shares_stay_shares(seen: list[tuple[int, bool]]) -> None:
    acceptance = Acceptance()
    for num_right, has_failed in seen:
        before = acceptance.share(1)
        acceptance.observe(1, num_right, has_failed=has_failed)
        assert 0 < acceptance.share(1) < 1
        if num_right and not has_failed:
            assert acceptance.share(1) > before
        if has_failed and not num_right:
            assert acceptance.share(1) < before
    assert acceptance.share(0) == Acceptance().share(0)


def test_grades_are_of_matches() -> None:
    assert [grade(length) for length in (3, 7, 8, 15, 16)] == [0, 0, 1, 1, 2]


def test_expected_tokens_are_a_geometric_sum() -> None:
    assert expected_tokens(0.5, 0) == 1
    assert expected_tokens(0.5, 3) == 1.875
    assert expected_tokens(1, 4) == 5


def test_one_stall_moves_a_price_little() -> None:
    prices = StepPrices(lambda rows: 1 + 0.1 * (rows - 1))
    for _ in range(9):
        prices.observe(1, 1_000)
    prices.observe(1, 1_000_000)
    assert 1_000 < prices.ns(1) <= 1_063
    assert prices.ns(2) == pytest.approx(prices.ns(1) * 1.1, rel=0.1)


@given(st.lists(st.tuples(st.integers(1, 16), st.integers(1, 10**9)), max_size=40))
def test_more_rows_never_cost_less(seen: list[tuple[int, int]]) -> None:
    prices = StepPrices(lambda rows: float(rows))
    for rows, elapsed_ns in seen:
        prices.observe(rows, elapsed_ns)
    known = sorted({rows for rows, _ in seen})
    times = [prices.ns(rows) for rows in known]
    assert times == sorted(times)


def drafted(speculation: Speculation, tokens: list[int], most: int = MOST_DRAFTS) -> list[int]:
    requests = [Growing(7, array("i", tokens), most)]
    return list(speculation.propose(requests, beside_prompts=False).get(7, ()))


def cheap(rows: int) -> float:
    return 1 + 0.001 * (rows - 1)


def dear(rows: int) -> float:
    return float(rows)


REPEATING = [5, 6, 7, 8] * 6


def test_cheap_rows_are_used_and_dear_ones_are_not() -> None:
    assert drafted(Speculation(cheap), REPEATING) == [5, 6, 7, 8] * 3 + [5, 6, 7]
    assert drafted(Speculation(dear), REPEATING) == []
    assert drafted(Speculation(cheap), REPEATING, most=2) == [5, 6]
    assert drafted(Speculation(cheap), REPEATING, most=0) == []
    assert drafted(Speculation(cheap), list(range(50))) == []


def test_beside_prompts_nothing_is_drafted() -> None:
    requests = [Growing(7, array("i", REPEATING), 4)]
    assert Speculation(cheap).propose(requests, beside_prompts=True) == {}


@pytest.mark.parametrize("price", [cheap, lambda rows: 1 + 0.3 * (rows - 1)])
def test_guesses_that_fail_end_drafting_and_right_ones_bring_it_back(
    price: Callable[[int], float],
) -> None:
    """The text breaks its pattern at each fourth token, then keeps to it; guesses are compared."""
    speculation, tokens = Speculation(price), list(REPEATING)
    for number in range(200):
        drafted(speculation, tokens)
        tokens += [5, 6, 7, 100 + number]
        tokens += [5, 6, 7]
    few = len(drafted(speculation, tokens))
    tokens += REPEATING
    for number in range(60):
        drafted(speculation, tokens)
        tokens.append(REPEATING[number % 4])
    assert few < 8 < len(drafted(speculation, tokens)) or price(9) > 2


def test_a_batch_shares_the_price() -> None:
    """Rows of all requests make up one step: where each is dear, not all draft as much."""

    def stairs(rows: int) -> float:
        return 1.0 if rows <= 10 else 10.0

    requests = [Growing(number, array("i", REPEATING), MOST_DRAFTS) for number in range(4)]
    found = Speculation(stairs).propose(requests, beside_prompts=False)
    assert 4 + sum(map(len, found.values())) == 10


def test_what_is_won_is_counted() -> None:
    speculation = Speculation(cheap)
    speculation.observe(1_000, [(0, 0)])
    assert speculation.counts.steps == 0
    speculation.observe(1_500, [(3, 2)])
    counts = speculation.counts
    assert (counts.steps, counts.drafted, counts.accepted, counts.won_ns) == (1, 3, 2, 1_500)
    speculation.observe(1_500, [(3, 0)])
    assert counts.won_ns == 1_000
