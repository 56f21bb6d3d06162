"""A prefix on its way from the page store into the tree, a few pages at a time."""

from collections.abc import Sequence

from tonnage.core.layout import PAGE_TOKENS
from tonnage.kvcache.page_cache import PageCache, first_seen
from tonnage.kvcache.prefix_tree import LOST, Match, PageStore

StoredPage = tuple[bytes, tuple[int, ...]]


class PrefixLoad:
    """Whole pages that the store has beyond what the tree matches.

    Nothing is held between two calls: what was loaded is cold, as any prefix that nobody uses, and
    when it was evicted meanwhile the load ends.
    """

    def __init__(self, cache: PageCache, tokens: Sequence[int], salt: str, match: Match) -> None:
        """Look up what there is after `match`; nothing is loaded yet."""
        self._cache = cache
        self._salt = salt
        self._parent = match.nodes[-1] if match.nodes else cache.tree.root(salt)
        self._index = len(match.nodes)
        store = cache.tree.store
        self._found = [] if store is None else self._stored(store, tokens)
        end = (self._index + len(self._found)) * PAGE_TOKENS
        self._firsts = [first_seen(group.window_tokens, end) for group in cache.groups]

    def advance(self, most_pages: int | None) -> bool:
        """Load up to `most_pages`, None for all; return whether more are to come.

        Colder prefixes make room, so the caller must have found room for all tokens just now.
        """
        tree, store = self._cache.tree, self._cache.tree.store
        if store is None or not self._found or not self._parent.alive:
            return False
        if self._parent.parent is None:
            self._parent = tree.root(self._salt)  # Roots come and go with what hangs on them.
        count = len(self._found) if most_pages is None else most_pages
        now, self._found = self._found[:count], self._found[count:]
        tree.enter(self._parent)
        for stored in now:
            if not self._load_page(store, stored):
                self._found = []
                break
        tree.leave(self._parent)
        return bool(self._found)

    def _load_page(self, store: PageStore, stored: StoredPage) -> bool:
        """Enter the next page below the parent, which is entered, and become its child."""
        cache, tree = self._cache, self._cache.tree
        key, tokens = stored
        wanted = [self._index >= first for first in self._firsts]
        if any(want and not cache.num_available(group) for group, want in enumerate(wanted)):
            return False
        pages = [cache.take(group) if want else LOST for group, want in enumerate(wanted)]
        loaded = store.get(key, tokens, pages)
        if loaded:
            above, self._parent = self._parent, tree.attach(self._parent, tokens, pages)
            self._index += 1
            tree.enter(self._parent)
            tree.leave(above)
        for group, page in enumerate(pages):
            if page != LOST:
                cache.pools[group].drop(page)
        return loaded

    def _stored(self, store: PageStore, tokens: Sequence[int]) -> list[StoredPage]:
        """Return keys and tokens of the pages that the store has."""
        found = []
        key = self._cache.tree.key_of(self._parent)
        for end in range((self._index + 1) * PAGE_TOKENS, len(tokens), PAGE_TOKENS):
            page = tuple(tokens[end - PAGE_TOKENS : end])
            key = store.page_key(key, page)
            if not store.has(key):
                break
            found.append((key, page))
        return found
