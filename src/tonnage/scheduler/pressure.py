"""What is given up when pages run short, level after level, and what is logged of it.

1. prefixes that no request uses are evicted, the least recently used first (`PageCache.take`);
2. with a page store they are written there before (`PrefixTree.evict`);
3. the batch shrinks: no request is admitted until one has ended;
4. the youngest of the lowest priority is preempted: its pages become an evictable prefix, and it
   resumes later;
5. a request that does not fit even alone is refused, with bytes and a time to retry.
Requests whose clients do not read go before all others in 4.
"""

from collections import Counter
from collections.abc import Callable, Sequence

from tonnage.core.errors import OverloadError
from tonnage.core.units import format_bytes
from tonnage.kvcache.page_cache import PageCache
from tonnage.scheduler.order import seniority
from tonnage.scheduler.sequence import Sequence as Paged

LEVELS = ("evict", "store", "shrink", "preempt", "refuse")


class PressureLevels:
    """Finds pages for a sequence, one level after another; `counts` says how often each was used.

    preempt: takes a running sequence's pages away. log: gets a sentence from the third level on.
    """

    def __init__(
        self, cache: PageCache, preempt: Callable[[Paged], None], log: Callable[[str], None]
    ) -> None:
        """Take the pages and what preempts."""
        self._cache = cache
        self._preempt = preempt
        self._log = log
        self._counts: Counter[str] = Counter()
        self.shrunk = False

    @property
    def counts(self) -> dict[str, int]:
        """How often each of LEVELS was used."""
        evicted = self._cache.tree.num_evicted
        stored = evicted if self._cache.tree.store is not None else 0
        return {**dict.fromkeys(LEVELS, 0), **self._counts, "evict": evicted, "store": stored}

    def find_pages(self, sequence: Paged, num_rows: int, running: Sequence[Paged]) -> int:
        """Return how many of `num_rows` the sequence has pages for now; 0 when it has to wait.

        running: all that hold pages; those that are preempted have `running` False afterwards.
        """
        fitting = sequence.rows_that_fit(self._cache, num_rows)
        while fitting < 1:
            self.shrink(len(running))
            victim = self.victim(sequence, running)
            if victim is None:
                return 0
            self.preempt(victim)
            running = [one for one in running if one.running]
            fitting = sequence.rows_that_fit(self._cache, num_rows)
        return fitting

    def victim(self, sequence: Paged, running: Sequence[Paged]) -> Paged | None:
        """Return which one is preempted for `sequence`: an idle one, else the youngest after it."""
        others = [one for one in running if one is not sequence and one.running]
        idle = [one for one in others if one.stalled]
        mine = seniority(sequence)
        return max(
            idle or [one for one in others if seniority(one) > mine], key=seniority, default=None
        )

    def shrink(self, num_running: int) -> None:
        """Admit no request until one has ended."""
        if not self.shrunk:
            self.shrunk = True
            self._counts["shrink"] += 1
            self._log(f"Pages are short: the batch stays at {num_running} until one has ended.")

    def preempt(self, victim: Paged) -> None:
        """Take the pages of `victim` away; it resumes when there are pages again."""
        self._counts["preempt"] += 1
        self._log(
            f"Request {victim.request.id} is preempted at {len(victim.tokens):,} tokens to free "
            f"{format_bytes(self.held_bytes(victim))}."
        )
        self._preempt(victim)

    def refusal(
        self, num_tokens: int, batch_tokens: int, retry_after_s: float | None
    ) -> OverloadError:
        """Return the error for a sequence of `num_tokens` that the pages do not suffice for."""
        self._counts["refuse"] += 1
        cache = self._cache
        needed, total = cache.bytes_for(num_tokens, batch_tokens), cache.total_bytes
        missing = max(1, needed - total)
        way = (
            "ask for fewer tokens or give the engine more memory"
            if retry_after_s is None
            else f"retry in {retry_after_s:.0f} s"
        )
        error = OverloadError(
            f"{num_tokens:,} tokens take {format_bytes(needed)} of KV pages and there are "
            f"{format_bytes(total)}; {way}.",
            missing_bytes=missing,
            retry_after_s=retry_after_s,
        )
        self._log(f"Refused: {error}")
        return error

    def queue_refusal(
        self, num_waiting: int, needed_bytes: int, retry_after_s: float
    ) -> OverloadError:
        """Return the error for a request that the queue has no place for."""
        self._counts["refuse"] += 1
        free = sum(
            group.page_bytes * pool.num_free
            for group, pool in zip(self._cache.groups, self._cache.pools, strict=True)
        )
        error = OverloadError(
            f"{num_waiting} requests are waiting already, and this one needs "
            f"{format_bytes(needed_bytes)} of KV pages; retry in {retry_after_s:.0f} s.",
            missing_bytes=max(0, needed_bytes - free),
            retry_after_s=retry_after_s,
        )
        self._log(f"Refused: {error}")
        return error

    def held_bytes(self, sequence: Paged) -> int:
        """Return the bytes of pages that a sequence lies on, shared ones included."""
        pairs = zip(self._cache.groups, sequence.tables, strict=True)
        return sum(group.page_bytes * sum(page >= 0 for page in table) for group, table in pairs)
