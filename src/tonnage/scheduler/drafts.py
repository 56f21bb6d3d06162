"""Draft tokens: what sequences may turn out to go on with, computed where a step has rows left.

After "Fast Inference from Transformers via Speculative Decoding" (Leviathan et al., 2023), but
verified by sampling: a draft is right if the request samples that token anyway. So nothing changes
but the number of steps.
"""

from array import array
from collections.abc import Sequence as Items
from dataclasses import replace

from tonnage.core.kv_format import PAGE_TOKENS
from tonnage.kvcache.page_cache import PageCache
from tonnage.scheduler.admission import Admission
from tonnage.scheduler.limits import SchedulerLimits
from tonnage.scheduler.scheduled import ScheduledChunk
from tonnage.scheduler.sequence import Sequence


class Drafts:
    """Drafts of one step. They take free pages alone, so they evict and preempt nothing."""

    def __init__(self, cache: PageCache, limits: SchedulerLimits, admission: Admission) -> None:
        """Begin with none; admission: knows what a request may come to."""
        self._cache = cache
        self._limits = limits
        self._admission = admission
        self._proposed: dict[int, array[int]] = {}
        self._grown: list[Sequence] = []
        self._held: dict[int, int] = {}  # request id -> place of the state of before the step

    def __bool__(self) -> bool:
        """Whether there are any for the next step."""
        return bool(self._proposed)

    def most(self, sequence: Sequence) -> int:
        """Return how many drafts are of use: one less than tokens can still be sampled."""
        limits = self._limits
        most = min(self._admission.most_tokens(sequence.request), limits.context_tokens - 1)
        left = most - len(sequence.tokens)
        return max(0, min(left, limits.max_logit_rows - 1, limits.max_batch_tokens - 1))

    def propose(self, sequence: Sequence, tokens: Items[int]) -> None:
        """Take token ids that may follow the known ones of a sequence that decodes, at most `most`.

        They hold for the next step alone and for what rows and free pages it has left.
        """
        self._proposed[sequence.request.id] = array("i", tokens[: self.most(sequence)])

    def add(self, chunks: dict[int, ScheduledChunk], most: int) -> None:
        """Add up to `most` drafts to the chunks that decode; each is at most what was proposed."""
        for request_id, tokens in self._proposed.items():
            chunk = chunks.get(request_id)
            if chunk is None or chunk.num_logit_rows != 1 or len(chunk.tokens) != 1:
                continue
            count = min(most, len(tokens), self._num_that_fit(chunk.sequence))
            if count < 1 or not self._hold_state(chunk.sequence):
                continue
            most -= count
            chunk.sequence.grow(self._cache, 1 + count)
            self._grown.append(chunk.sequence)
            chunks[request_id] = replace(
                chunk,
                tokens=chunk.tokens + tokens[:count],
                num_logit_rows=1 + count,
                num_drafts=count,
            )

    def num_kept(self, chunk: ScheduledChunk, num_sampled: int) -> int:
        """Return how many rows of a chunk stay computed; see `ScheduledChunk.num_kept`.

        A state cannot be cut: if any draft was wrong, that of before the step comes back, and the
        tokens that were sampled are computed again.
        """
        num_kept = chunk.num_kept(num_sampled)
        states = self._cache.states
        if states is None:
            return num_kept
        place = self._held.pop(chunk.request_id)
        if num_kept < len(chunk.tokens):
            states.roll_back(place, chunk.sequence.slot)
            num_kept = 0
        states.drop(place)
        return num_kept

    def _hold_state(self, sequence: Sequence) -> bool:
        """Copy the state that a sequence goes back to, if it has one; return whether drafts may."""
        states = self._cache.states
        if states is None:
            return True
        place = states.hold(sequence.slot)
        if place is not None:
            self._held[sequence.request.id] = place
        return place is not None

    def settle(self) -> None:
        """Forget all, and leave the pages that hold nothing but rejected ones."""
        if self._proposed:
            self._proposed.clear()
        if self._grown:
            for sequence in self._grown:
                sequence.shrink(self._cache)
            self._grown.clear()

    def _num_that_fit(self, sequence: Sequence) -> int:
        """Return how many rows behind the next one find a place on free pages."""
        held = (
            len(table) + pool.num_free
            for table, pool in zip(sequence.tables, self._cache.pools, strict=True)
        )
        return min(held) * PAGE_TOKENS - sequence.num_computed - 1
