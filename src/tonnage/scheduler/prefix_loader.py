"""What the page store has of waiting requests, loaded before they start."""

from typing import TYPE_CHECKING

from tonnage.kvcache.page_cache import PageCache
from tonnage.scheduler.sequence import Sequence

if TYPE_CHECKING:
    from tonnage.kvcache.prefix_load import PrefixLoad


class PrefixLoader:
    """The loads that have begun and not ended; nothing else is held between two steps."""

    def __init__(self, cache: PageCache) -> None:
        """Begin with none."""
        self._cache = cache
        self._loads: dict[int, PrefixLoad] = {}

    def load_more(self, sequence: Sequence, most_pages: int | None) -> bool:
        """Load up to `most_pages`, None for all, of what the store has of a waiting sequence.

        Returns whether there is more. The caller must have found pages for all its tokens.
        """
        tree, request = self._cache.tree, sequence.request
        if tree.store is None:
            return False
        load = self._loads.get(request.id)
        if load is None:
            from tonnage.kvcache.prefix_load import PrefixLoad

            tokens = sequence.findable
            match = tree.match(tokens, request.salt)
            load = PrefixLoad(self._cache, tokens, request.salt, match)
        loads_on = load.advance(most_pages)
        if loads_on:
            self._loads[request.id] = load
        else:
            self.drop(request.id)
        return loads_on

    def drop(self, request_id: int) -> None:
        """Forget the load of a request that has started or ended."""
        self._loads.pop(request_id, None)
