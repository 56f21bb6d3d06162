"""The prefix tree: pages of finished prompts and answers, found again by their token ids.

A radix tree whose edges are pages of 64 tokens, after "SGLang: Efficient Execution of Structured
Language Model Programs" (Zheng et al., 2024). Leaves leave first, the least recently used ahead. A
node may have lost its pages of a windowed group: a hit then ends where the window is complete.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Protocol

from tonnage.core.layout import PAGE_TOKENS
from tonnage.kvcache.pages import PageGroup, PagePool

LOST = -1
# A copy of a page takes about as long as computing two tokens, so fewer are not worth one.
MIN_COPY_TOKENS = 8
# Children that are looked through for a page that agrees in part.
MAX_LOOKED_AT = 32


class Node:
    """One page of tokens after its parent's; `pages` has an id or LOST for each group.

    users: sequences that lie on the node. stamp, rested_ns: when it was used last, by the count of
    uses and by the clock. key: what the page store calls it, made when needed.
    """

    __slots__ = (
        "alive", "children", "key", "pages", "parent", "partials", "rested_ns", "salt", "stamp",
        "tokens", "users",
    )  # fmt: skip

    def __init__(self, parent: "Node | None", tokens: tuple[int, ...], pages: list[int]) -> None:
        """Hang a page below `parent`; it is not entered there yet."""
        self.parent = parent
        self.tokens = tokens
        self.pages = pages
        self.children: dict[tuple[int, ...], Node] = {}
        self.partials: dict[tuple[int, ...], Node] = {}
        self.salt = ""
        self.users = 0
        self.stamp = 0
        self.rested_ns = 0
        self.key: bytes | None = None
        self.alive = True


class PageStore(Protocol):
    """A tier behind memory, such as a disk. No call may raise; what fails is a miss."""

    def root_key(self, salt: str) -> bytes:
        """Return the key that the first page of prompts with `salt` follows."""

    def page_key(self, parent: bytes, tokens: tuple[int, ...]) -> bytes:
        """Return the key of a full page of `tokens` after the page `parent`."""

    def has(self, key: bytes) -> bool:
        """Whether there is likely a page of that key."""

    def put(self, key: bytes, tokens: tuple[int, ...], pages: list[int]) -> None:
        """Keep the bytes of `pages` (an id or LOST per group) before they are overwritten."""

    def get(self, key: bytes, tokens: tuple[int, ...], pages: list[int]) -> bool:
        """Fill `pages` (an id, or LOST where none is wanted); False when any is missing."""


@dataclass(frozen=True, slots=True)
class Match:
    """What of a prompt is cached: whole pages, and `num_tokens` with the part of one more."""

    nodes: tuple[Node, ...]
    partial: Node | None
    num_tokens: int


class PrefixTree:
    """The tree over the pools of all groups; it keeps at most `max_bytes` that nobody uses."""

    def __init__(
        self,
        groups: Sequence[PageGroup],
        pools: Sequence[PagePool],
        max_bytes: int | None = None,
        store: PageStore | None = None,
    ) -> None:
        """Take the groups with their pools; max_bytes: None for as much as there are pages."""
        self._groups = groups
        self._pools = pools
        self._max_bytes = max_bytes
        self.store = store
        self._roots: dict[str, Node] = {}
        self._clock = 0
        self.now_ns = 0  # of the step; for onlookers alone
        self._num_made = 0
        self.num_nodes = 0
        self.num_evicted = 0
        # Candidates for eviction by age: leaves, and per windowed group the nodes with a page.
        self._leaves: list[tuple[int, int, Node]] = []
        self._windows: list[list[tuple[int, int, Node]]] = [[] for _ in groups]

    @property
    def cached_bytes(self) -> int:
        """Bytes of pages that are kept and that nobody uses."""
        pairs = zip(self._groups, self._pools, strict=True)
        return sum(group.page_bytes * pool.num_cached for group, pool in pairs)

    def roots(self) -> tuple[Node, ...]:
        """Return where prompts begin, of all salts."""
        return tuple(self._roots.values())

    def root(self, salt: str) -> Node:
        """Return the node that prompts with `salt` begin at."""
        root = self._roots.get(salt)
        if root is None:
            root = self._roots[salt] = Node(None, (), [])
            root.salt = salt
            if self.store is not None:
                root.key = self.store.root_key(salt)
        return root

    def match(self, tokens: Sequence[int], salt: str) -> Match:
        """Return the longest usable prefix; the last token is never part of it."""
        node = self._roots.get(salt)
        if node is None:
            return Match((), None, 0)
        limit = len(tokens) - 1
        nodes: list[Node] = []
        while (end := (len(nodes) + 1) * PAGE_TOKENS) <= limit:
            child = node.children.get(tuple(tokens[end - PAGE_TOKENS : end]))
            if child is None:
                break
            nodes.append(child)
            node = child
        begin = len(nodes) * PAGE_TOKENS
        partial, shared = _best_partial(node, tokens[begin : min(limit, begin + PAGE_TOKENS)])
        if partial is not None and self._complete([*nodes, partial], begin + shared):
            return Match(tuple(nodes), partial, begin + shared)
        while nodes and not self._complete(nodes, len(nodes) * PAGE_TOKENS):
            nodes.pop()
        return Match(tuple(nodes), None, len(nodes) * PAGE_TOKENS)

    def child(self, parent: Node, tokens: tuple[int, ...]) -> Node | None:
        """Return the full page `tokens` below `parent` if all groups still have it."""
        node = parent.children.get(tokens)
        return None if node is None or LOST in node.pages else node

    def attach(self, parent: Node, tokens: tuple[int, ...], pages: list[int]) -> Node:
        """Enter a full page that is in use; return its node, a new one or the one that was there.

        The caller's pages are kept where the node had none.
        """
        node = parent.children.get(tokens)
        if node is None:
            node = parent.children[tokens] = self._new(parent, tokens, pages)
            for old in [o for o in parent.partials.values() if tokens[: len(o.tokens)] == o.tokens]:
                self._remove(old)
        for group, page in enumerate(pages):
            if page != LOST and node.pages[group] in (LOST, page):
                node.pages[group] = page
                if not self._pools[group].is_kept(page):
                    self._pools[group].keep(page)
        return node

    def attach_partial(
        self, parent: Node, tokens: tuple[int, ...], pages: list[int]
    ) -> Node | None:
        """Enter the last page of a sequence, which is not full; its pages are in use.

        Returns its node, None when it is not worth one or is there already.
        """
        size = len(tokens)
        if size < MIN_COPY_TOKENS or LOST in pages:
            return None
        siblings = [*parent.partials.values(), *_last(parent.children)]
        if any(other.tokens[:size] == tokens for other in siblings):
            return None
        subsumed = [o for o in parent.partials.values() if tokens[: len(o.tokens)] == o.tokens]
        node = parent.partials[tokens] = self._new(parent, tokens, pages)
        for group, page in enumerate(pages):
            self._pools[group].keep(page)
        for old in subsumed:
            self._remove(old)
        return node

    def drop_root(self, salt: str) -> None:
        """Forget the root of `salt` if nothing hangs on it."""
        root = self._roots.get(salt)
        if root is not None and not root.children and not root.partials:
            del self._roots[salt]

    def enter(self, node: Node) -> None:
        """Count a sequence that lies on `node` now."""
        node.users += 1

    def leave(self, node: Node) -> None:
        """Take a sequence away that lay on `node`; its pages must be dropped already."""
        node.users -= 1
        if node.parent is not None:
            self.rest(node)

    def rest(self, node: Node) -> None:
        """Note that `node` was used just now, and may be evicted when nobody uses it."""
        self._clock += 1
        node.stamp, node.rested_ns = self._clock, self.now_ns
        if _is_free_leaf(node):
            self._push(self._leaves, node)
        for group, page in enumerate(node.pages):
            if page != LOST and self._groups[group].window_tokens:
                self._rest_window(node, group)

    def _rest_window(self, node: Node, group: int) -> None:
        if self._pools[group].users(node.pages[group]) == 0:
            self._push(self._windows[group], node)

    def evict(self, group: int) -> bool:
        """Free a page of `group` that nobody uses; return whether there was one."""
        if self._groups[group].window_tokens:
            return self._evict_window(group)
        return self._evict_leaf()

    def trim(self) -> None:
        """Evict until the cap in bytes holds."""
        while self._max_bytes is not None and self.cached_bytes > self._max_bytes:
            if not self._evict_leaf() and not any(
                self._evict_window(g) for g, one in enumerate(self._groups) if one.window_tokens
            ):
                return

    def flush(self) -> None:
        """Put every full page into the store, as before a shutdown."""
        for node in self._all():
            self._save(node)

    def clear(self) -> None:
        """Evict everything that nobody uses."""
        while self._evict_leaf():
            pass

    def check(self) -> None:
        """Assert that tree and pools agree; for tests."""
        kept: list[set[int]] = [set() for _ in self._groups]
        count = 0
        for node in self._all():
            count += 1
            assert node.alive
            for group, page in enumerate(node.pages):
                if page != LOST:
                    assert page not in kept[group]
                    kept[group].add(page)
        assert count == self.num_nodes
        for pool, pages in zip(self._pools, kept, strict=True):
            assert all(pool.is_kept(page) for page in pages)
            assert sum(pool.is_kept(page) for page in range(len(pool._users))) == len(pages)

    def _all(self) -> Iterator[Node]:
        todo = list(self._roots.values())
        while todo:
            node = todo.pop()
            if node.parent is not None:
                yield node
            todo += [*node.children.values(), *node.partials.values()]

    def _new(self, parent: Node, tokens: tuple[int, ...], pages: list[int]) -> Node:
        self.num_nodes += 1
        return Node(parent, tokens, list(pages))

    def _complete(self, nodes: Sequence[Node], num_tokens: int) -> bool:
        """Whether every group has what the position after `num_tokens` looks back at."""
        for group, spec in enumerate(self._groups):
            window = spec.window_tokens
            first = max(0, num_tokens - window) // PAGE_TOKENS if window else 0
            if any(node.pages[group] == LOST for node in nodes[first:]):
                return False
        return True

    def _push(self, heap: list[tuple[int, int, Node]], node: Node) -> None:
        if len(heap) > 4 * self.num_nodes + 64:
            heap[:] = [entry for entry in heap if entry[2].alive and entry[0] == entry[2].stamp]
            heapify(heap)
        self._num_made += 1
        heappush(heap, (node.stamp, self._num_made, node))

    def _evict_leaf(self) -> bool:
        while self._leaves:
            stamp, _, node = heappop(self._leaves)
            if node.alive and stamp == node.stamp and _is_free_leaf(node):
                self._save(node)
                self._remove(node)
                self.num_evicted += 1
                return True
        return False

    def _evict_window(self, group: int) -> bool:
        heap, pool = self._windows[group], self._pools[group]
        while heap:
            stamp, _, node = heappop(heap)
            page = node.pages[group]
            if not node.alive or page == LOST or pool.users(page):
                continue
            if stamp != node.stamp:
                self._push(heap, node)
                continue
            self._save(node)
            node.pages[group] = LOST
            pool.forget(page)
            if _is_free_leaf(node) and all(page == LOST for page in node.pages):
                self._remove(node)
            return True
        return False

    def _save(self, node: Node) -> None:
        if self.store is None or len(node.tokens) < PAGE_TOKENS:
            return
        if all(page == LOST for page in node.pages):
            return
        self.store.put(self.key_of(node), node.tokens, node.pages)

    def key_of(self, node: Node) -> bytes:
        """Return the store's key of a node; only with a store."""
        assert self.store is not None
        missing = []
        while node.key is None:
            missing.append(node)
            assert node.parent is not None
            node = node.parent
        key = node.key
        for later in reversed(missing):
            key = later.key = self.store.page_key(key, later.tokens)
        return key

    def _remove(self, node: Node) -> None:
        """Take a leaf out, and those above it that hold nothing any more."""
        for group, page in enumerate(node.pages):
            if page != LOST:
                self._pools[group].forget(page)
                node.pages[group] = LOST
        node.alive = False
        self.num_nodes -= 1
        parent = node.parent
        assert parent is not None
        where = parent.children if len(node.tokens) == PAGE_TOKENS else parent.partials
        del where[node.tokens]
        if not _is_free_leaf(parent):
            return
        if parent.parent is None:
            del self._roots[parent.salt]
        elif all(page == LOST for page in parent.pages):
            self._remove(parent)
        else:
            self._push(self._leaves, parent)


def _is_free_leaf(node: Node) -> bool:
    return node.users == 0 and not node.children and not node.partials


def _last(children: dict[tuple[int, ...], Node]) -> list[Node]:
    """Return the children that came last, not all of what may be thousands."""
    found = []
    for child in reversed(children.values()):
        found.append(child)
        if len(found) == MAX_LOOKED_AT:
            break
    return found


def _best_partial(node: Node, tokens: Sequence[int]) -> tuple[Node | None, int]:
    """Return the page below `node` that agrees longest with `tokens`, and in how many."""
    best, best_shared = None, MIN_COPY_TOKENS - 1
    for candidate in (*_last(node.partials), *_last(node.children)):
        shared = num_shared(candidate.tokens, tokens)
        if shared > best_shared:
            best, best_shared = candidate, shared
    return best, best_shared if best is not None else 0


def num_shared(left: Sequence[int], right: Sequence[int]) -> int:
    """Return how many leading tokens agree."""
    count = 0
    for a, b in zip(left, right, strict=False):
        if a != b:
            break
        count += 1
    return count
