"""A prefix on its way from the page store into the tree, a few pages at a time."""

from collections import deque
from collections.abc import Sequence

from tonnage.core.kv_format import PAGE_TOKENS
from tonnage.kvcache.page_cache import PageCache, first_seen
from tonnage.kvcache.pages import LOST
from tonnage.kvcache.prefix_node import Match
from tonnage.kvcache.prefix_store import PrefixStore

StoredPage = tuple[bytes, tuple[int, ...]]


class PrefixLoad:
    """Whole pages that the store has beyond what the tree matches.

    Nothing is held between two calls: what was loaded is evictable, as any unused prefix, and
    when it was evicted meanwhile the load ends.
    """

    def __init__(self, cache: PageCache, tokens: Sequence[int], salt: str, match: Match) -> None:
        """Look up what there is after `match`; nothing is loaded yet."""
        self._cache = cache
        self._salt = salt
        self._parent = match.nodes[-1] if match.nodes else cache.tree.root(salt)
        self._index = len(match.nodes)
        store = cache.tree.store
        self._found = deque([] if store is None else self._stored(store, tokens))
        end = (self._index + len(self._found)) * PAGE_TOKENS
        self._firsts = [first_seen(group.window_tokens, end) for group in cache.groups]

    def advance(self, most_pages: int | None) -> bool:
        """Load up to `most_pages`, None for all; return whether more are to come.

        Older prefixes are evicted for it; the caller must have found pages for all tokens just now.
        """
        tree, store = self._cache.tree, self._cache.tree.store
        if store is None or not self._found or not self._parent.alive:
            return False
        if self._parent.parent is None:
            self._parent = tree.root(self._salt)  # Roots come and go with what hangs on them.
        count = len(self._found)
        tree.enter(self._parent)
        for _ in range(count if most_pages is None else min(count, most_pages)):
            if not self._load_page(store, self._found.popleft()):
                self._found.clear()
                break
        tree.leave(self._parent)
        return bool(self._found)

    def _load_page(self, store: PrefixStore, stored: StoredPage) -> bool:
        """Enter the next page below the parent, which is entered, and become its child.

        The last one brings the state that its snapshot holds.
        """
        cache, tree, states = self._cache, self._cache.tree, self._cache.states
        key, tokens = stored
        wanted = [self._index >= first for first in self._firsts]
        if any(want and not cache.num_available(group) for group, want in enumerate(wanted)):
            return False
        place = None if states is None or self._found else states.take()
        pages = [cache.take(group) if want else LOST for group, want in enumerate(wanted)]
        loaded = store.get(key, tokens, pages, LOST if place is None else place)
        if loaded:
            above, self._parent = self._parent, tree.attach(self._parent, tokens, pages)
            self._index += 1
            tree.enter(self._parent)
            tree.leave(above)
        if states is not None and place is not None:
            if loaded and self._parent.snapshot == LOST:
                states.enter(self._parent, place)
            else:
                states.drop(place)
        for group, page in enumerate(pages):
            if page != LOST:
                cache.pools[group].drop(page)
        return loaded

    def _stored(self, store: PrefixStore, tokens: Sequence[int]) -> list[StoredPage]:
        """Return keys and tokens of the pages that the store has."""
        found = []
        key = self._cache.tree.key_of(self._parent)
        for end in range((self._index + 1) * PAGE_TOKENS, len(tokens), PAGE_TOKENS):
            page = tuple(tokens[end - PAGE_TOKENS : end])
            key = store.page_key(key, page)
            if not store.has(key):
                break
            found.append((key, page))
        if self._cache.states is not None:
            while found and not store.has_state(found[-1][0]):
                found.pop()
        return found
