"""Whether pages suffice for a sequence, alone or beside those that run."""

from collections.abc import Collection

from tonnage.kvcache.page_cache import PageCache, first_seen
from tonnage.scheduler.limits import SchedulerLimits
from tonnage.scheduler.sequence import Request, Sequence


class Admission:
    """Counts the pages that sequences hold and may come to need."""

    def __init__(self, cache: PageCache, limits: SchedulerLimits) -> None:
        """Look at the pools of `cache`, which change meanwhile."""
        self._cache = cache
        self._limits = limits

    def most_tokens(self, request: Request) -> int:
        """Return the positions that a request computes at most: its last token never is."""
        total = len(request.prompt) + max(1, request.max_tokens) - 1
        return min(total, self._limits.context_tokens)

    def suffices(self, num_tokens: int) -> bool:
        """Whether a sequence of so many tokens fits when there is no other."""
        return all(
            self._held(num_tokens, group) <= pool.num_total
            for group, pool in enumerate(self._cache.pools)
        )

    def admits(self, sequence: Sequence, running: Collection[Sequence]) -> bool:
        """Whether there are pages for all tokens that `sequence` and those that run know now.

        And one to spare for each that may become longer.
        """
        match = sequence.match(self._cache)
        for group, pool in enumerate(self._cache.pools):
            first = first_seen(self._cache.groups[group].window_tokens, match.num_tokens)
            shared = [n.pages[group] for n in match.nodes[first:] if n.pages[group] >= 0]
            warmed = sum(pool.users(page) == 0 for page in shared)
            promised = sum(self._promised(one, group) for one in running)
            needed = self._held(self._soon(sequence), group) - len(shared)
            spare = sum(self._grows(one, group) for one in (sequence, *running))
            if needed + promised + spare > self._cache.num_available(group) - warmed:
                return False
        return True

    def _promised(self, sequence: Sequence, group: int) -> int:
        """Return the pages that a running sequence still needs for the tokens it knows."""
        held = sum(page >= 0 for page in sequence.tables[group])
        return max(0, self._held(len(sequence.tokens), group) - held)

    def _grows(self, sequence: Sequence, group: int) -> bool:
        """Whether a sequence may come to need more pages than it has or was counted with."""
        known = len(sequence.tokens) if sequence.running else self._soon(sequence)
        return self._held(self.most_tokens(sequence.request), group) > self._held(known, group)

    def _soon(self, sequence: Sequence) -> int:
        """Return the positions that a sequence computes before its second token."""
        return min(len(sequence.tokens) + 1, self.most_tokens(sequence.request))

    def _held(self, num_tokens: int, group: int) -> int:
        return self._cache.num_pages_for(group, num_tokens, self._limits.max_batch_tokens)
