"""All pages of an engine: a pool per group, the prefix tree over them, and taking from both."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from tonnage.core.kv_format import PAGE_TOKENS
from tonnage.kvcache.pages import PageGroup, PagePool
from tonnage.kvcache.prefix_store import PrefixStore
from tonnage.kvcache.prefix_tree import PrefixTree

if TYPE_CHECKING:
    from tonnage.kvcache.states import StatePool


class PageBytes(Protocol):
    """What moves the bytes that page ids stand for."""

    def copy(self, group: int, source: int, target: int) -> None:
        """Copy a page within its group, at once."""

    def release(self, group: int, pages: list[int]) -> None:
        """Give pages back to the system; what they hold is lost."""


class PageCache:
    """Hands out pages, evicting unused prefixes in the order of the prefix tree."""

    def __init__(
        self,
        groups: Sequence[PageGroup],
        page_bytes: PageBytes,
        *,
        max_cached_bytes: int | None = None,
        store: PrefixStore | None = None,
        states: "StatePool | None" = None,
    ) -> None:
        """Take the groups of the plan; max_cached_bytes: of unused prefixes.

        states: of a model whose sequences have a state beside their pages.
        """
        self.groups = tuple(groups)
        self.pools = tuple(PagePool(group.num_pages) for group in groups)
        self.tree = PrefixTree(self.groups, self.pools, max_cached_bytes, store, states)
        self.states = states
        self._bytes = page_bytes

    @property
    def total_bytes(self) -> int:
        """Bytes of all pages that may be used now."""
        pairs = zip(self.groups, self.pools, strict=True)
        return sum(group.page_bytes * pool.num_total for group, pool in pairs)

    def num_available(self, group: int) -> int:
        """Return the pages of `group` that can be taken: free and evictable ones."""
        pool = self.pools[group]
        return pool.num_free + pool.num_cached

    def take(self, group: int) -> int:
        """Return a page of `group` with one user; only while `num_available` is not 0."""
        pool = self.pools[group]
        while (page := pool.take()) is None:
            if not self.tree.evict(group):
                raise AssertionError(f"group {group} has pages that cannot be evicted")
        return page

    def copy(self, group: int, source: int, target: int) -> None:
        """Copy the bytes of a page."""
        if source != target:
            self._bytes.copy(group, source, target)

    def num_pages_for(self, group: int, num_tokens: int, batch_tokens: int) -> int:
        """Return the most pages of `group` that a sequence of `num_tokens` holds at once."""
        pages = -(-num_tokens // PAGE_TOKENS)
        window = self.groups[group].window_tokens
        if window:
            pages = min(pages, -(-(window + batch_tokens) // PAGE_TOKENS) + 1)
        return pages

    def bytes_for(self, num_tokens: int, batch_tokens: int) -> int:
        """Return the bytes of pages that a sequence of `num_tokens` takes."""
        return sum(
            group.page_bytes * self.num_pages_for(index, num_tokens, batch_tokens)
            for index, group in enumerate(self.groups)
        )

    def set_total(self, totals: Sequence[int]) -> bool:
        """Bring every pool towards its share of `totals`; return whether it is there.

        Free pages go first, then evictable prefixes; pages in use stay, and the caller has to free
        them and come again. Pages given up are released to the system.
        """
        reached = True
        for group, (pool, wanted) in enumerate(zip(self.pools, totals, strict=True)):
            pool.restore(wanted - pool.num_total)
            while pool.num_total > wanted:
                given = pool.withdraw(pool.num_total - wanted)
                if given:
                    self._bytes.release(group, given)
                elif not self.tree.evict(group):
                    reached = False
                    break
        return reached

    def check(self) -> None:
        """Assert what must always hold; for tests."""
        for pool in self.pools:
            pool.check()
        self.tree.check()
        if self.states is not None:
            self.states.check()


def first_seen(window_tokens: int, position: int) -> int:
    """Return the first page that a row at `position` looks at; 0 when it sees all."""
    return max(0, position - window_tokens) // PAGE_TOKENS if window_tokens else 0
