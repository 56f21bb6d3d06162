"""The suffix index against a search of the whole text."""

import random

import pytest

from tonnage.speculation.suffix import MAX_MATCH, MAX_PLACES, MIN_MATCH, NOTHING, SuffixIndex


def searched(tokens: list[int], most: int) -> tuple[list[int], int, int, int]:
    """Compare the end with every earlier place, the latest first."""
    end = len(tokens)
    ending = tokens[-MIN_MATCH:]
    places = [
        place for place in range(end - 1, MIN_MATCH - 1, -1)
        if tokens[place - MIN_MATCH : place] == ending
    ][:MAX_PLACES]  # fmt: skip
    if end < MIN_MATCH or not places:
        return [], 0, 0, 0
    best, longest = -1, 0
    for place in places:
        count = 0
        while count < min(place, MAX_MATCH) and tokens[place - 1 - count] == tokens[-1 - count]:
            count += 1
        if count > longest:
            best, longest = place, count
    agreeing = [tokens[place] for place in places].count(tokens[best])
    return tokens[best : best + most], longest, len(places), agreeing


@pytest.mark.parametrize("vocab_size", [1, 2, 3, 8, 50])
def test_a_growing_text_gives_what_a_search_gives(vocab_size: int) -> None:
    rng = random.Random(vocab_size)
    for _ in range(20):
        index, tokens = SuffixIndex(400), []
        while len(tokens) < 300:
            copied = rng.randrange(len(tokens) + 1)
            tokens += tokens[copied : copied + rng.randrange(12)]
            tokens += [rng.randrange(vocab_size) for _ in range(rng.randrange(6))]
            most = rng.randrange(1, 9)
            found = index.find(tokens, most)
            assert (list(found.tokens), *found[1:]) == searched(tokens, most)


def test_a_text_that_repeats_goes_on_as_it_did() -> None:
    assert list(SuffixIndex(100).find([1, 2, 3, 4, 5, 9, 1, 2, 3], 2).tokens) == [4, 5]


def test_behind_its_bound_it_finds_nothing() -> None:
    assert SuffixIndex(8).find([1, 2, 3, 4, 5, 9, 1, 2, 3], 2) == NOTHING
