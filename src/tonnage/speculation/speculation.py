"""Drafts for the requests that decode: from their own texts, as many as pay.

The price of a draft is what its row adds to the step, its worth the tokens that it gives if what
was seen so far holds. What was not drafted is compared too: guesses cost nothing, so a text that
begins to repeat itself is noticed without a row.
"""

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence

from tonnage.core.drafts import DraftCounts, Growing
from tonnage.core.record import record
from tonnage.speculation.acceptance import Acceptance, expected_tokens, grade
from tonnage.speculation.prices import StepPrices
from tonnage.speculation.suffix import continuation, latest_match

# A sequence's drafts in a step. A plan has rows of logits for so many.
MOST_DRAFTS = 15
# How much more tokens per second drafts must promise.
_MARGIN = 1.03


@record
class Guess:
    """What was thought to follow the first `position` tokens."""

    position: int
    tokens: "array[int]"
    grade: int


class Speculation:
    """Proposes drafts step by step, and learns what they cost and give."""

    def __init__(self, forecast_s: Callable[[int], float]) -> None:
        """forecast_s: see StepPrices."""
        self.counts = DraftCounts()
        self._prices = StepPrices(forecast_s)
        self._acceptance = Acceptance()
        self._guesses: dict[int, Guess] = {}
        self._acceptances: dict[int, Acceptance] = {}

    def propose(
        self, requests: Sequence[Growing], *, beside_prompts: bool
    ) -> Mapping[int, Sequence[int]]:
        """Return request id -> drafts for the next step, which has a row for each request anyway.

        `requests` are all that decode; others are forgotten. beside_prompts: rows of prompts are in
        the step, too, and they come first: nothing is drafted.
        """
        if beside_prompts:
            return {}
        acceptances, self._acceptances = self._acceptances, {}
        guesses, self._guesses = self._guesses, {}
        num_rows = num_tokens = float(len(requests))
        proposed = {}
        for one in requests:
            own = acceptances.get(one.request_id) or Acceptance(self._acceptance)
            self._acceptances[one.request_id] = own
            if (last := guesses.get(one.request_id)) is not None:
                self._compare(last, one.tokens, own)
            guess = _guess(one)
            if guess is None:
                continue
            self._guesses[one.request_id] = guess
            share = own.share(guess.grade)
            count = self._num_drafts(int(num_rows), num_tokens, share, len(guess.tokens))
            if count:
                proposed[one.request_id] = guess.tokens[:count]
                num_rows += count
                num_tokens += expected_tokens(share, count) - 1
        return proposed

    def observe(self, elapsed_ns: int, rows: Iterable[tuple[int, int]]) -> None:
        """Learn from a step in which all requests decoded; rows: each one's drafts, and right ones.

        elapsed_ns: with proposing and sampling.
        """
        kept = list(rows)
        num_drafts, num_right = sum(drafts for drafts, _ in kept), sum(right for _, right in kept)
        self._prices.observe(len(kept) + num_drafts, elapsed_ns)
        if num_drafts:
            plain_ns = self._prices.ns(len(kept))
            self.counts.steps += 1
            self.counts.drafted += num_drafts
            self.counts.accepted += num_right
            self.counts.won_ns += int(plain_ns * (1 + num_right / len(kept)) - elapsed_ns)

    def _compare(self, guess: Guess, tokens: "array[int]", own: Acceptance) -> None:
        """Learn how far a guess was right, whether it was drafted or not."""
        came = tokens[guess.position : guess.position + len(guess.tokens)]
        num_right = 0
        while num_right < len(came) and came[num_right] == guess.tokens[num_right]:
            num_right += 1
        for acceptance in (own, self._acceptance):
            acceptance.observe(guess.grade, num_right, has_failed=num_right < len(came))

    def _num_drafts(self, num_rows: int, num_tokens: float, share: float, most: int) -> int:
        """Return how many drafts of one request make the next step give most tokens per second."""
        best, count = _MARGIN * num_tokens / self._prices.ns(num_rows), 0
        for number in range(1, most + 1):
            tokens = num_tokens + expected_tokens(share, number) - 1
            speed = tokens / self._prices.ns(num_rows + number)
            if speed > best:
                best, count = speed, number
        return count


def _guess(request: Growing) -> Guess | None:
    if request.most < 1:
        return None
    match = latest_match(request.tokens)
    if match is None:
        return None
    tokens = continuation(request.tokens, match, min(request.most, MOST_DRAFTS))
    return Guess(len(request.tokens), tokens, grade(match.length))
