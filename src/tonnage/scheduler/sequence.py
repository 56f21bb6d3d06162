"""One request's tokens and the pages that hold them."""

from array import array
from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tonnage.core.kv_format import PAGE_TOKENS
from tonnage.core.pooling import Pooling
from tonnage.core.record import record
from tonnage.kvcache.page_cache import PageCache, first_seen
from tonnage.kvcache.pages import LOST
from tonnage.kvcache.prefix_node import Match, Node

if TYPE_CHECKING:
    from tonnage.kvcache.states import StatePool


@record
class Request:
    """What is asked for: `prompt` and at most `max_tokens` more; times in nanoseconds.

    priority: higher goes first. deadline_ns: when a completion is of no use any more. tenant: whose
    share its rows count to. salt: prefixes are shared between equal salts only. live: a client
    waits for every token, so the gaps between them have a bound. pooling: the prompt is computed
    for its hidden states, and no token is sampled after it. joined: it is a part of what was queued
    before, so the queue's bound does not count for it. logits_from: the logits of the prompt's rows
    from that position on are wanted, so they are computed, whatever prefixes are there.
    """

    id: int
    prompt: Items[int]
    max_tokens: int
    arrival_ns: int
    priority: int = 0
    deadline_ns: int | None = None
    tenant: str = ""
    salt: str = ""
    live: bool = True
    pooling: Pooling | None = None
    joined: bool = False
    logits_from: int | None = None


@dataclass(eq=False, slots=True)
class Sequence:
    """A request on its way: `tokens` so far, of which `num_computed` lie in pages.

    tables[g][i]: the page of group g with positions 64 i and after, LOST behind its window.
    num_scored: rows of the prompt that need not be computed for their logits any more.
    admitted_ns: when it had pages for the first time, 0 before. slot: its place among those that
    run, for the sum of its hidden states and for its state; -1 where it has neither, or no pages.
    One that is pooled neither finds nor leaves a prefix: a mean needs every row, and texts that are
    computed once must not evict the conversations that go on.
    """

    request: Request
    tokens: "array[int]"
    num_computed: int = 0
    num_cached: int = 0
    num_preempted: int = 0
    stalled: bool = False
    running: bool = False
    last_served: int = 0
    num_scored: int = 0
    admitted_ns: int = 0
    slot: int = -1
    tables: list[list[int]] = field(default_factory=list)
    path: list[Node] = field(default_factory=list)
    _first: list[int] = field(default_factory=list)
    _moving: Node | None = None

    def __post_init__(self) -> None:
        """Begin with the rows whose logits are not wanted."""
        wanted = self.request.logits_from
        self.num_scored = len(self.request.prompt) if wanted is None else wanted

    @property
    def first_logit_row(self) -> int:
        """The position from which on all rows of known tokens have logits that are wanted."""
        is_scored = self.num_scored >= len(self.request.prompt) - 1
        return len(self.tokens) - 1 if is_scored else self.num_scored

    def num_logit_rows(self, num_rows: int) -> int:
        """Return how many of the next `num_rows` rows have logits that are wanted."""
        if self.is_pooled:
            return 0
        return max(0, num_rows - max(0, self.first_logit_row - self.num_computed))

    @property
    def num_pending(self) -> int:
        """Tokens that are known and not computed; 1 in decode."""
        return len(self.tokens) - self.num_computed

    @property
    def is_pooled(self) -> bool:
        """Whether hidden states are wanted, and no completion."""
        return self.request.pooling is not None

    @property
    def is_decoding(self) -> bool:
        """Whether the next row gives the next token of a completion."""
        return self.num_pending == 1 and not self.is_pooled

    @property
    def awaited(self) -> bool:
        """Whether a client waits for its next token."""
        return self.request.live and not self.stalled

    def match(self, cache: PageCache) -> Match:
        """Return what of its tokens is there already."""
        if self.is_pooled:
            return Match((), None, 0)
        return cache.tree.match(self.findable, self.request.salt)

    @property
    def findable(self) -> "array[int]":
        """The tokens to look for in the cache; the last of them is never part of a prefix."""
        end = self.first_logit_row + 1
        return self.tokens if end == len(self.tokens) else self.tokens[:end]

    def admit(self, cache: PageCache, match: Match) -> None:
        """Start on what `match` found: share its whole pages, copy the one that agrees in part."""
        self.running = True
        self.tables = [[] for _ in cache.groups]
        self._first = [0] * len(cache.groups)
        if cache.states is not None and match.last is not None:
            cache.states.restore(match.last, self.slot)
        for node in match.nodes:
            self._share(cache, node, match.num_tokens)
        self.num_computed = len(match.nodes) * PAGE_TOKENS
        partial = match.partial
        if partial is not None and all(map(cache.num_available, range(len(self.tables)))):
            sources = list(partial.pages)
            for group, source in enumerate(sources):
                page = cache.take(group)
                cache.copy(group, source, page)
                self.tables[group].append(page)
            self.num_computed = match.num_tokens
        self.num_cached = max(self.num_cached, self.num_computed)
        if cache.states is not None:
            assert self.num_computed == match.num_tokens, "a state cannot be cut"

    def rows_that_fit(self, cache: PageCache, num_rows: int) -> int:
        """Return how many of `num_rows` fit in the pages that are there or can be taken."""
        for group, table in enumerate(self.tables):
            held = len(table) + cache.num_available(group)
            num_rows = min(num_rows, held * PAGE_TOKENS - self.num_computed)
        return num_rows

    def grow(self, cache: PageCache, num_rows: int) -> None:
        """Take the pages that `num_rows` more rows need; they must be available."""
        needed = -(-(self.num_computed + num_rows) // PAGE_TOKENS)
        for group, table in enumerate(self.tables):
            while len(table) < needed:
                table.append(cache.take(group))

    def shrink(self, cache: PageCache) -> None:
        """Leave the pages behind the last computed position."""
        needed = -(-self.num_computed // PAGE_TOKENS)
        for group, table in enumerate(self.tables):
            for page in table[needed:]:
                cache.pools[group].drop(page)
            del table[needed:]

    def adopt(self, cache: PageCache) -> None:
        """Go on over pages that others have computed in the meantime."""
        if cache.states is not None:
            self._adopt_snapshot(cache)
            return
        limit = self.first_logit_row
        while (
            self.num_computed % PAGE_TOKENS == 0
            and self.num_computed + PAGE_TOKENS <= limit
            and len(self.tables[0]) == len(self.path)
        ):
            page = tuple(self.tokens[self.num_computed : self.num_computed + PAGE_TOKENS])
            node = cache.tree.child(self._parent(cache), page)
            if node is None:
                return
            self._share(cache, node, self.num_computed + PAGE_TOKENS)
            self.num_computed += PAGE_TOKENS
            self._pass_window(cache)

    def _adopt_snapshot(self, cache: PageCache) -> None:
        """Go on from a snapshot that others have left further on."""
        assert cache.states is not None
        num_own = len(self.path)
        if self.num_computed != num_own * PAGE_TOKENS or len(self.tables[0]) != num_own:
            return
        match = self.match(cache)
        if match.partial is not None or len(match.nodes) <= num_own:
            return
        cache.states.restore(match.nodes[-1], self.slot)
        for node in match.nodes[num_own:]:
            self._share(cache, node, match.num_tokens)
        self.num_computed = match.num_tokens
        self._pass_window(cache)

    def num_to_border(self, num_rows: int) -> int:
        """Return how many of `num_rows` to compute in a step.

        For one with a state: a step ends at the last border of a page that it comes to, since a
        snapshot can be taken at its end alone.
        """
        end = self.num_computed + num_rows
        border = end // PAGE_TOKENS * PAGE_TOKENS
        if self.is_pooled or border <= self.num_computed:
            return num_rows
        return border - self.num_computed

    def commit(self, cache: PageCache, num_rows: int) -> None:
        """Count rows as computed: full pages go into the tree, those behind a window are left."""
        self.num_computed += num_rows
        self.num_scored = max(self.num_scored, self.num_computed)
        if self.is_pooled:
            self._pass_window(cache)
            return
        full = self.num_computed // PAGE_TOKENS
        if full > len(self.path):
            for index in range(len(self.path), full):
                self._attach(cache, index)
            self._pass_window(cache)
            if cache.states is not None and self.num_computed % PAGE_TOKENS == 0:
                self._keep_state(cache.states)

    def _keep_state(self, states: "StatePool") -> None:
        """Keep a snapshot at the last page; one behind the prompt takes the place of another."""
        if self._moving is not None and self._moving.snapshot != LOST:
            states.leave(self._moving)
        node = self.path[-1]
        is_behind = self.num_computed > len(self.request.prompt) and node.snapshot == LOST
        self._moving = node if is_behind else None
        states.keep(node, self.slot)

    def release(self, cache: PageCache) -> None:
        """Leave all pages; what they hold stays in the tree until it is evicted."""
        if not self.running:
            return
        self.running = False
        if self.is_pooled:
            self._drop_pages(cache)
            self.tables, self.num_computed, self.slot = [], 0, -1
            return
        tree, last = cache.tree, None
        rest = self.tokens[len(self.path) * PAGE_TOKENS : self.num_computed]
        if rest:
            pages = [table[len(self.path)] for table in self.tables]
            last = tree.attach_partial(self._parent(cache), tuple(rest), pages)
        if cache.states is not None and self.num_computed:
            end = last if rest else self.path[-1]
            if end is not None:
                cache.states.keep(end, self.slot)
        self._drop_pages(cache)
        for node in self.path:
            tree.leave(node)
        if last is not None:
            tree.rest(last)
        self.tables, self.path, self.num_computed, self.slot = [], [], 0, -1
        self._moving = None
        tree.drop_root(self.request.salt)
        tree.trim()

    def _drop_pages(self, cache: PageCache) -> None:
        for group, table in enumerate(self.tables):
            for page in table:
                if page != LOST:
                    cache.pools[group].drop(page)

    def next_page(self, cache: PageCache) -> tuple[int, tuple[int, ...]] | None:
        """Return what names the next whole page of known tokens, None if there is none."""
        begin = len(self.path) * PAGE_TOKENS
        if len(self.tokens) - begin < PAGE_TOKENS:
            return None
        return id(self._parent(cache)), tuple(self.tokens[begin : begin + PAGE_TOKENS])

    def _parent(self, cache: PageCache) -> Node:
        return self.path[-1] if self.path else cache.tree.root(self.request.salt)

    def _share(self, cache: PageCache, node: Node, num_tokens: int) -> None:
        """Lie on `node`; num_tokens: where the sequence will go on, for what windows need."""
        index = len(self.path)
        for group, table in enumerate(self.tables):
            first = first_seen(cache.groups[group].window_tokens, num_tokens)
            if index < first or node.pages[group] == LOST:
                table.append(LOST)
            else:
                cache.pools[group].use(node.pages[group])
                table.append(node.pages[group])
        cache.tree.enter(node)
        self.path.append(node)

    def _attach(self, cache: PageCache, index: int) -> None:
        begin = index * PAGE_TOKENS
        pages = [table[index] for table in self.tables]
        tokens = tuple(self.tokens[begin : begin + PAGE_TOKENS])
        node = cache.tree.attach(self._parent(cache), tokens, pages)
        cache.tree.enter(node)
        self.path.append(node)
        # Others computed the same page: bits are equal, so theirs serves and this one is free.
        for group, page in enumerate(pages):
            if page not in (LOST, node.pages[group]):
                cache.pools[group].use(node.pages[group])
                cache.pools[group].drop(page)
                self.tables[group][index] = node.pages[group]

    def _pass_window(self, cache: PageCache) -> None:
        for group, spec in enumerate(cache.groups):
            if not spec.window_tokens:
                continue
            table = self.tables[group]
            known = len(table) if self.is_pooled else len(self.path)
            end = min(first_seen(spec.window_tokens, self.num_computed), known)
            for index in range(self._first[group], end):
                if table[index] != LOST:
                    cache.pools[group].drop(table[index])
                    table[index] = LOST
                    if not self.is_pooled:
                        cache.tree.rest(self.path[index])
            self._first[group] = max(self._first[group], end)
