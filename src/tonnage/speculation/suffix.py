"""What followed the last tokens of a sequence where they stood before, in the same sequence."""

from array import array
from collections.abc import Sequence
from typing import NamedTuple

# Fewer equal tokens say little about what follows.
MIN_MATCH = 3
# Bounds of the work of one call: earlier places that are compared, and equal tokens counted.
MAX_PLACES = 16
MAX_MATCH = 64


class Continuation(NamedTuple):
    """What may follow, and how much speaks for it."""

    tokens: Sequence[int]
    num_equal: int  # tokens of the suffix that are equal at the place, at most MAX_MATCH
    num_places: int  # that were compared
    num_agreeing: int  # of these, how many go on with the same token


NOTHING = Continuation((), 0, 0, 0)


class SuffixIndex:
    """Finds the longest match of the end of one growing sequence.

    It holds places alone; the tokens stay with their owner.
    """

    def __init__(self, max_tokens: int) -> None:
        """max_tokens: what lies behind is not looked at, so this bounds the memory."""
        self._max_tokens = max_tokens
        self._last: dict[tuple[int, ...], int] = {}
        # Of each place behind MIN_MATCH tokens: the place before with the same ones, or -1.
        self._before = array("i")

    def find(self, tokens: Sequence[int], most: int) -> Continuation:
        """Return up to `most` tokens that followed the longest match; of equals, the latest.

        tokens: those of the call before with others appended.
        """
        if len(tokens) > self._max_tokens:
            return NOTHING
        for place in range(MIN_MATCH + len(self._before), len(tokens) + 1):
            key = tuple(tokens[place - MIN_MATCH : place])
            self._before.append(self._last.get(key, -1))
            self._last[key] = place
        if most < 1 or not self._before:
            return NOTHING
        places = self._places()
        if not places:
            return NOTHING
        best = max(places, key=lambda place: (_num_equal(tokens, place), place))
        agreeing = sum(tokens[place] == tokens[best] for place in places)
        return Continuation(
            tokens[best : best + most], _num_equal(tokens, best), len(places), agreeing
        )

    def _places(self) -> list[int]:
        """Return the latest places with the same last tokens, the end left out."""
        places: list[int] = []
        place = self._before[-1]
        while place >= 0 and len(places) < MAX_PLACES:
            places.append(place)
            place = self._before[place - MIN_MATCH]
        return places


def _num_equal(tokens: Sequence[int], place: int) -> int:
    """Return how many tokens before `place` equal the last ones."""
    end = len(tokens)
    most = min(place, MAX_MATCH)
    for count in range(MIN_MATCH, most):
        if tokens[place - 1 - count] != tokens[end - 1 - count]:
            return count
    return most
