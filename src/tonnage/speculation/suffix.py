"""Drafts from the text itself: what followed the last time that it ended as it does now.

After prompt lookup decoding (Saxena 2023) and SuffixDecoding (Oliaro et al. 2024), without an
index: a search of bytes takes microseconds and no memory beside the text.
"""

from array import array

from tonnage.core.record import record

# Fewer equal tokens say too little; more than the most change nothing that is decided.
SHORTEST, LONGEST = 3, 16
# Positions that are searched, from the end.
WINDOW = 1 << 15
# Hits that begin within a token before a search gives up.
_MAX_MISALIGNED = 64


@record
class Match:
    """The last `length` tokens, at most LONGEST, stood before; `end` is behind that place."""

    end: int
    length: int


def latest_match(tokens: "array[int]") -> Match | None:
    """Return the latest earlier place of the last tokens: the most of them, else SHORTEST.

    A place may overlap the end. Looks at WINDOW tokens.
    """
    size, first = tokens.itemsize, max(0, len(tokens) - WINDOW)
    data = tokens[first:].tobytes()
    for length in (LONGEST, SHORTEST):
        pattern = data[-length * size :]
        if len(data) <= len(pattern):
            continue
        at = _find(data, pattern, size)
        if at >= 0:
            end = first + at // size + length
            return Match(end, _equal(tokens, end, length))
    return None


def _find(data: bytes, pattern: bytes, size: int) -> int:
    """Return where whole tokens equal `pattern` before the end, -1 where none do."""
    stop = len(data) - size
    for _ in range(_MAX_MISALIGNED):
        at = data.rfind(pattern, 0, stop)
        if at < 0 or at % size == 0:
            return at
        stop = at + len(pattern) - 1
    return -1


def _equal(tokens: "array[int]", end: int, known: int) -> int:
    """Return how many tokens before `end` are those at the end, if `known` of them are."""
    length, last = known, len(tokens)
    while length < min(LONGEST, end) and tokens[end - length - 1] == tokens[last - length - 1]:
        length += 1
    return length


def continuation(tokens: "array[int]", match: Match, count: int) -> "array[int]":
    """Return `count` tokens as they followed the match; a text that repeats itself goes on so."""
    found = tokens[match.end : match.end + count]
    while len(found) < count:
        found += found[: count - len(found)]
    return found
