"""The prefix tree: pages of finished prompts and completions, found again by their token ids.

A radix tree whose edges are pages of 64 tokens, after "SGLang: Efficient Execution of Structured
Language Model Programs" (Zheng et al., 2024). Leaves leave first, the least recently used ahead. A
node may have lost its pages of a windowed group: a hit then ends where the window is complete.
"""

from collections.abc import Iterator, Sequence
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

from tonnage.core.kv_format import PAGE_TOKENS
from tonnage.kvcache.pages import LOST, PageGroup, PagePool
from tonnage.kvcache.prefix_node import (
    MIN_COPY_TOKENS,
    Match,
    Node,
    best_partial,
    best_snapshot,
    is_free_leaf,
    latest,
)
from tonnage.kvcache.prefix_store import PrefixStore

if TYPE_CHECKING:
    from tonnage.kvcache.states import StatePool


class PrefixTree:
    """The tree over the pools of all groups; it keeps at most `max_bytes` that are unused."""

    def __init__(
        self,
        groups: Sequence[PageGroup],
        pools: Sequence[PagePool],
        max_bytes: int | None = None,
        store: PrefixStore | None = None,
        states: "StatePool | None" = None,
    ) -> None:
        """Take the groups with their pools; max_bytes: None for as much as there are pages.

        states: of a model whose sequences have a state; prefixes then end at snapshots.
        """
        self._groups = groups
        self._pools = pools
        self._max_bytes = max_bytes
        self.store = store
        self._states = states
        if states is not None and store is not None:
            states.before_eviction = self._save
        self._roots: dict[str, Node] = {}
        self._clock = 0
        self.now_ns = 0  # of the step; for observers alone
        self._num_made = 0
        self.num_nodes = 0
        self.num_evicted = 0
        # Candidates for eviction by age: leaves, and per windowed group the nodes with a page.
        self._leaves: list[tuple[int, int, Node]] = []
        self._windows: list[list[tuple[int, int, Node]]] = [[] for _ in groups]

    @property
    def cached_bytes(self) -> int:
        """Bytes of pages that are kept and unused."""
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
        if self._states is not None:
            return self._match_snapshot(nodes, tokens[:limit], salt)
        begin = len(nodes) * PAGE_TOKENS
        partial, shared = best_partial(node, tokens[begin : min(limit, begin + PAGE_TOKENS)])
        if partial is not None and self._complete([*nodes, partial], begin + shared):
            return Match(tuple(nodes), partial, begin + shared)
        while nodes and not self._complete(nodes, len(nodes) * PAGE_TOKENS):
            nodes.pop()
        return Match(tuple(nodes), None, len(nodes) * PAGE_TOKENS)

    def _match_snapshot(self, nodes: list[Node], tokens: Sequence[int], salt: str) -> Match:
        """Return the longest prefix within `nodes` and one page more that ends at a snapshot."""
        while True:
            begin = len(nodes) * PAGE_TOKENS
            node = nodes[-1] if nodes else self._roots[salt]
            partial = best_snapshot(node, tokens[begin : begin + PAGE_TOKENS])
            if partial is not None:
                end = begin + len(partial.tokens)
                if self._complete([*nodes, partial], end):
                    return Match(tuple(nodes), partial, end)
            if not nodes or (node.snapshot != LOST and self._complete(nodes, begin)):
                return Match(tuple(nodes), None, begin)
            nodes.pop()

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
            for old in _within(parent, tokens):
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

        Returns its node, None when it is not worth one or is there already. Where sequences have a
        state each end is worth one, and the one that is there is returned.
        """
        if LOST in pages:
            return None
        if self._states is not None and tokens in parent.partials:
            return parent.partials[tokens]
        if self._states is None and not _is_worth_a_node(parent, tokens):
            return None
        within = _within(parent, tokens)
        node = parent.partials[tokens] = self._new(parent, tokens, pages)
        for group, page in enumerate(pages):
            self._pools[group].keep(page)
        for old in within:
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
        """Note that `node` was used just now, and may be evicted once it is unused."""
        self._clock += 1
        node.stamp, node.rested_ns = self._clock, self.now_ns
        if is_free_leaf(node):
            self._push(self._leaves, node)
        for group, page in enumerate(node.pages):
            if page != LOST and self._groups[group].window_tokens:
                self._rest_window(node, group)

    def _rest_window(self, node: Node, group: int) -> None:
        if self._pools[group].users(node.pages[group]) == 0:
            self._push(self._windows[group], node)

    def evict(self, group: int) -> bool:
        """Free an unused page of `group`; return whether there was one."""
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
        """Evict everything that is unused."""
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
            if node.alive and stamp == node.stamp and is_free_leaf(node):
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
            if is_free_leaf(node) and all(page == LOST for page in node.pages):
                self._remove(node)
            return True
        return False

    def _save(self, node: Node) -> None:
        if self.store is None or len(node.tokens) < PAGE_TOKENS:
            return
        if all(page == LOST for page in node.pages):
            return
        self.store.put(self.key_of(node), node.tokens, node.pages, node.snapshot)

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
        if self._states is not None and node.snapshot != LOST:
            self._states.leave(node)
        node.alive = False
        self.num_nodes -= 1
        parent = node.parent
        assert parent is not None
        where = parent.children if len(node.tokens) == PAGE_TOKENS else parent.partials
        del where[node.tokens]
        if not is_free_leaf(parent):
            return
        if parent.parent is None:
            del self._roots[parent.salt]
        elif all(page == LOST for page in parent.pages):
            self._remove(parent)
        else:
            self._push(self._leaves, parent)


def _within(parent: Node, tokens: tuple[int, ...]) -> list[Node]:
    """Return the pages below `parent` that `tokens` say more than, which have no snapshot."""
    return [
        old for old in parent.partials.values()
        if old.snapshot == LOST and old.tokens == tokens[: len(old.tokens)]
    ]  # fmt: skip


def _is_worth_a_node(parent: Node, tokens: tuple[int, ...]) -> bool:
    """Whether the tokens of a page that is not full are many enough and not there already."""
    size = len(tokens)
    siblings = [*parent.partials.values(), *latest(parent.children)]
    return size >= MIN_COPY_TOKENS and not any(one.tokens[:size] == tokens for one in siblings)
