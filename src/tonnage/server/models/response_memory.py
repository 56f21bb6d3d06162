"""The memory that responses may hold beside the engine's own, of all requests together."""

from tonnage.server.http.failures import HttpError, too_many

# An answer that waits or runs: its options, text, stream, task and place in the queue.
ANSWER_BYTES = 8 << 10
# A token of its prompt, in the request and in the queue.
PROMPT_TOKEN_BYTES = 8
# A text that is to be embedded, and a token of it.
INPUT_BYTES = 160
INPUT_TOKEN_BYTES = 4
# What is left of those when an answer has ended before others of its request.
ENDED_BYTES = 4 << 10
# 110 bytes each, and in one answer at a time 200 more while it becomes JSON.
MOST_LOGPROBS = 16_384


class ResponseBudget:
    """Bytes of answers that wait for their turn, or for the ends of others of their request."""

    def __init__(self, capacity_bytes: int) -> None:
        """capacity_bytes: planned for them (`tonnage.core.footprint.server_bytes`)."""
        self.capacity_bytes = capacity_bytes
        self.held_bytes = 0

    def hold(self, num_bytes: int, own_bytes: int = 0, *, is_one: bool = False) -> None:
        """Count `num_bytes` more of a request that holds `own_bytes` already.

        is_one: they are of a single answer, which gets a place where no other has any: what runs is
        planned for. Raises HttpError: 429 when others fill the budget, 400 for what never fits.
        """
        is_full = self.held_bytes + num_bytes > self.capacity_bytes
        if is_full and (self.held_bytes or not is_one):
            raise self._refusal(num_bytes + own_bytes)
        self.held_bytes += num_bytes

    def release(self, num_bytes: int) -> None:
        """Give back what was held."""
        self.held_bytes -= num_bytes

    def _refusal(self, own_bytes: int) -> HttpError:
        held, most = self.held_bytes, self.capacity_bytes
        if own_bytes > most:
            return HttpError(
                400,
                f"All answers of this request together take {own_bytes:,} bytes until they are "
                f"sent, and there are {most:,} for those of all requests; ask for fewer at once.",
                code="invalid_value",
                param="n",
            )
        return too_many(
            f"Answers that wait hold {held:,} of {most:,} bytes, and this request takes "
            f"{own_bytes:,}; try again soon.",
            1,
        )


class LogprobBudget:
    """Log probabilities, alternatives included, that wait to be sent, of all requests together."""

    def __init__(self) -> None:
        """Begin with none."""
        self.num_held = 0

    def hold(self, count: int, own: int) -> None:
        """Count so many more of an answer that holds `own` already. Raises HttpError when full."""
        if self.num_held + count <= MOST_LOGPROBS:
            self.num_held += count
            return
        sentence = (
            f"Log probabilities wait for the ends of their answers, {own:,} of them of this one; "
            f"{MOST_LOGPROBS:,} in all is the limit. Stream the answer, or ask for fewer."
        )
        if own == self.num_held:
            raise HttpError(400, sentence, code="invalid_value", param="logprobs")
        raise HttpError(503, sentence, code="busy", headers={"retry-after": "1"})


class ResponseMemory:
    """Both kinds; one for all models of a server."""

    def __init__(self, answer_bytes: int) -> None:
        """answer_bytes: for all answers, beside their log probabilities."""
        self.answers = ResponseBudget(answer_bytes)
        self.logprobs = LogprobBudget()
