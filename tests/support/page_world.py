"""A plain model of pages under the scheduler: what every position of every page really holds.

Each computed token writes what it stands for, the hash of all tokens up to it, into its place; each
row checks that everything it may look at holds what a sequence alone would have written there.
Tokens are sampled from that hash, so answers must not depend on anything else. Drafts go on rightly
for a random number of tokens and wrongly after that; what wrong ones wrote must never be seen.
A state of a sequence is that hash too: a step must find that of all tokens before it in its slot.
"""

import random
from collections import Counter
from collections.abc import Sequence

from tonnage.core.errors import DeadlineError, OverloadError
from tonnage.core.kv_format import PAGE_TOKENS
from tonnage.kvcache.page_cache import PageCache
from tonnage.kvcache.pages import LOST, PageGroup
from tonnage.kvcache.states import StatePool
from tonnage.scheduler.limits import SchedulerLimits
from tonnage.scheduler.scheduler import ScheduledChunk, Scheduler
from tonnage.scheduler.sequence import Request

VOCABULARY = 5
END_TOKEN = 4


def next_token(value: int) -> int:
    """Draw from the hash of a prefix; one in forty ends an answer."""
    if value % VOCABULARY == END_TOKEN and value // 1024 % 8:
        return value // 8192 % END_TOKEN
    return value % VOCABULARY


def hashes(tokens: Sequence[int]) -> list[int]:
    """Return the hash of each prefix."""
    values, value = [], 17
    for token in tokens:
        value = (value * 1_000_003 + token + 1) % (1 << 61)
        values.append(value)
    return values


def answer_alone(prompt: Sequence[int], max_tokens: int) -> list[int]:
    """Return what a request draws with nobody else around."""
    tokens = list(prompt)
    while len(tokens) < len(prompt) + max_tokens:
        tokens.append(next_token(hashes(tokens)[-1]))
        if tokens[-1] == END_TOKEN:
            break
    return tokens[len(prompt) :]


class Contents:
    """What every position of every page holds; stands in for the arena."""

    def __init__(self, groups: Sequence[PageGroup]) -> None:
        self.cells = [[[0] * PAGE_TOKENS for _ in range(g.num_pages)] for g in groups]
        self.num_released = 0
        self.sums: dict[int, list[int]] = {}  # slot -> hashes of the positions that were pooled
        self.states: dict[int, int] = {}  # place -> hash of the tokens that it stands behind

    def copy_state(self, source: int, target: int) -> None:
        self.states[target] = self.states[source]

    def copy(self, group: int, source: int, target: int) -> None:
        self.cells[group][target][:] = self.cells[group][source]

    def release(self, group: int, pages: list[int]) -> None:
        for page in pages:
            self.cells[group][page][:] = [0] * PAGE_TOKENS
        self.num_released += len(pages)


class Store:
    """A page store in a dict that sometimes loses what it was given."""

    def __init__(self, contents: Contents, rng: random.Random) -> None:
        self._contents = contents
        self._rng = rng
        self._pages: dict[bytes, list[list[int] | None]] = {}
        self._states: dict[bytes, int] = {}
        self.num_hits = self.num_state_hits = 0

    def root_key(self, salt: str) -> bytes:
        return salt.encode()

    def page_key(self, parent: bytes, tokens: tuple[int, ...]) -> bytes:
        return parent + bytes(tokens)

    def has(self, key: bytes) -> bool:
        return key in self._pages

    def has_state(self, key: bytes) -> bool:
        return key in self._states

    def put(
        self, key: bytes, tokens: tuple[int, ...], pages: list[int], snapshot: int = LOST
    ) -> None:
        assert key.endswith(bytes(tokens))
        cells = self._contents.cells
        if snapshot != LOST:
            self._states[key] = self._contents.states[snapshot]
        self._pages[key] = [
            None if page < 0 else list(cells[group][page]) for group, page in enumerate(pages)
        ]

    def get(
        self, key: bytes, tokens: tuple[int, ...], pages: list[int], snapshot: int = LOST
    ) -> bool:
        kept = self._pages[key]
        if self._rng.random() < 0.05:
            return False
        if any(page >= 0 and one is None for page, one in zip(pages, kept, strict=True)):
            return False
        for group, page in enumerate(pages):
            if page >= 0:
                self._contents.cells[group][page][:] = kept[group]
        if snapshot != LOST:
            self._contents.states[snapshot] = self._states[key]
            self.num_state_hits += 1
        self.num_hits += 1
        return True


class World:
    """A scheduler, its pages and requests; `operate` does one random thing and checks all."""

    def __init__(
        self, groups: Sequence[PageGroup], limits: SchedulerLimits, rng: random.Random, *,
        with_store: bool = False, max_cached_bytes: int | None = None, thorough: bool = True,
        most_drafts: int = 0, num_snapshots: int | None = None,
    ) -> None:  # fmt: skip
        """num_snapshots: None for a model whose sequences have no state."""
        self.groups = groups
        self.rng = rng
        self.now_ns = 0
        self.contents = Contents(groups)
        self.store = Store(self.contents, rng) if with_store else None
        states = None
        if num_snapshots is not None:
            states = StatePool(limits.max_running, num_snapshots, self.contents)
        cache = PageCache(
            groups, self.contents, max_cached_bytes=max_cached_bytes, store=self.store,
            states=states,
        )  # fmt: skip
        self.log: list[str] = []
        self.scheduler = Scheduler(
            cache, limits, step_ns=lambda rows: rows * 1000, log=self.log.append
        )
        self.limits = limits
        self.requests: dict[int, Request] = {}
        self.answers: dict[int, list[int]] = {}
        self.refused: list[OverloadError | DeadlineError] = []
        self.num_completed = 0
        self.num_pooled = 0
        self.num_cached_tokens = 0
        self.thorough = thorough
        self.most_drafts = most_drafts
        self.num_accepted: Counter[int] = Counter()  # steps by how many of their drafts were right
        self._next_id = 0

    def prompt(self) -> list[int]:
        """Return a prompt that shares its beginning with many others."""
        rng = self.rng
        tokens = [rng.randrange(2)] * rng.choice((10, 64, 130, 200))
        tokens += [rng.randrange(2)] * rng.choice((0, 1, 20, 63, 64, 65, 150))
        return (tokens + [rng.randrange(3) for _ in range(rng.randrange(1, 30))])[
            : self.limits.context_tokens - 1
        ]

    def submit(self, prompt: list[int] | None = None, max_tokens: int | None = None) -> int | None:
        rng = self.rng
        request = Request(
            self._next_id, self.prompt() if prompt is None else prompt,
            rng.randrange(0, 120) if max_tokens is None else max_tokens,
            self.now_ns, priority=rng.choice((0, 0, 0, 1)),
            deadline_ns=self.now_ns + rng.randrange(1, 10**7) if rng.random() < 0.1 else None,
            tenant=rng.choice("ab"), salt=rng.choice(("", "", "other")), live=rng.random() < 0.7,
            pooling=rng.choice((None, None, None, "mean", "last")) if prompt is None else None,
        )  # fmt: skip
        self._next_id += 1
        try:
            self.scheduler.submit(request)
        except OverloadError as error:
            self._note(error)
            return None
        self.requests[request.id] = request
        self.answers[request.id] = []
        return request.id

    def cancel(self) -> None:
        if self.requests:
            request_id = self.rng.choice(list(self.requests))
            self.scheduler.cancel(request_id)
            self._drop(request_id)

    def stall(self) -> None:
        if self.requests:
            request_id = self.rng.choice(list(self.requests))
            self.scheduler.set_stalled(request_id, stalled=self.rng.random() < 0.5)

    def set_budget(self, share: float) -> None:
        planned = sum(g.num_pages * g.page_bytes for g in self.groups)
        self.scheduler.set_budget(int(planned * share))
        self._take_ended()
        pools = self.scheduler.cache.pools
        for pool, group in zip(pools, self.groups, strict=True):
            assert pool.num_total <= max(0, int(group.num_pages * share) + 1)

    def step(self) -> bool:
        """Run a step; return whether there was one."""
        if self.most_drafts:
            self._propose()
        chunks = self.scheduler.next_step(self.now_ns)
        self._take_ended()
        sampled, rows = {}, 0
        for chunk in chunks:
            rows += len(chunk.tokens)
            values = self._compute(chunk)
            if chunk.num_logit_rows:
                sampled[chunk.request_id] = self._verify(chunk, values)
        limits = self.limits
        assert rows <= limits.max_batch_tokens
        assert sum(chunk.num_logit_rows for chunk in chunks) <= limits.max_logit_rows
        self.now_ns += max(1, rows) * 1000
        if not chunks:
            return False
        self.scheduler.commit(chunks, sampled, rows * 1000)
        for request_id, tokens in sampled.items():
            self._draw(request_id, tokens)
        for chunk in chunks:
            if chunk.ends and chunk.sequence.is_pooled:
                self._end_pooled(chunk)
        return True

    def operate(self) -> None:
        """Do one random thing, then check everything."""
        kind = self.rng.random()
        if kind < 0.2:
            self.submit()
        elif kind < 0.22:
            self.cancel()
        elif kind < 0.26:
            self.stall()
        elif kind < 0.265:
            self.set_budget(self.rng.choice((0.4, 0.67, 1.0, 1.0)))
        else:
            self.step()
        self.check()

    def check(self) -> None:
        """Assert that the books of all pools are closed."""
        for pool in self.scheduler.cache.pools:
            assert pool.num_free + pool.num_cached + pool.num_used == pool.num_total
        if self.thorough:
            self.scheduler.cache.check()
            held = [set() for _ in self.groups]
            for sequence in self.scheduler._running:
                for group, table in enumerate(sequence.tables):
                    assert len(table) == -(-sequence.num_computed // PAGE_TOKENS)
                    held[group] |= {page for page in table if page >= 0}
            for pool, pages in zip(self.scheduler.cache.pools, held, strict=True):
                assert pool.num_used == len(pages)

    def drain(self) -> None:
        """Let everything end; nothing may be in use then."""
        for request_id in self.requests:
            self.scheduler.set_stalled(request_id, stalled=False)
        for _ in range(100_000):
            if not self.requests:
                break
            assert self.step() or not self.requests
        assert not self.requests
        self.scheduler.cache.check()
        assert all(pool.num_used == 0 for pool in self.scheduler.cache.pools)
        self.scheduler.cache.tree.clear()
        for pool in self.scheduler.cache.pools:
            assert pool.num_free == pool.num_total
        assert self.scheduler.cache.tree.num_nodes == 0
        assert not self.scheduler.cache.tree._roots

    def _propose(self) -> None:
        """Propose the right continuation for a while and then wrong tokens, for some."""
        rng, drafts = self.rng, self.scheduler.drafts
        for sequence in self.scheduler.decoding():
            if rng.random() < 0.2:
                continue
            tokens = list(sequence.tokens)
            right = rng.randrange(self.most_drafts + 1)
            for number in range(rng.randrange(self.most_drafts + 3)):
                token = next_token(hashes(tokens)[-1])
                tokens.append(token if number < right else (token + 1) % VOCABULARY)
            drafts.propose(sequence, tokens[len(sequence.tokens) :])

    def _verify(self, chunk: ScheduledChunk, values: list[int]) -> list[int]:
        """Sample from row after row as long as the next one computed what was sampled."""
        begin = len(values) - chunk.num_logit_rows
        request = self.requests[chunk.request_id]
        left = min(request.max_tokens, self.limits.context_tokens - len(request.prompt)) - len(
            self.answers[chunk.request_id]
        )
        sampled = [next_token(values[begin])]
        for row in range(1, chunk.num_logit_rows):
            assert len(sampled) < left, "a draft behind the last token is of no use"
            if sampled[-1] != chunk.tokens[len(chunk.tokens) - chunk.num_logit_rows + row]:
                break
            if sampled[-1] == END_TOKEN:
                break
            sampled.append(next_token(values[begin + row]))
        if chunk.num_logit_rows > 1:
            self.num_accepted[len(sampled) - 1] += 1
        return sampled

    def _compute(self, chunk: ScheduledChunk) -> list[int]:
        """Check what a chunk's rows look at, write what they compute; return the hashes so far."""
        num_known = len(chunk.tokens) - chunk.num_drafts
        known = [*chunk.sequence.tokens[: chunk.position], *chunk.tokens]
        assert chunk.tokens[:num_known] == chunk.sequence.tokens[chunk.position :][:num_known]
        values = hashes(known)
        for group, (spec, table) in enumerate(zip(self.groups, chunk.tables, strict=True)):
            cells = self.contents.cells[group]
            for position in range(chunk.position, len(known)):
                page = table[position // PAGE_TOKENS]
                cells[page][position % PAGE_TOKENS] = values[position]
            window = spec.window_tokens
            first = max(0, chunk.position - window + 1) if window else 0
            for position in range(first, len(known)):
                page = table[position // PAGE_TOKENS]
                assert page >= 0, f"group {group}: position {position} is lost"
                assert cells[page][position % PAGE_TOKENS] == values[position]
        if self.scheduler.cache.states is not None:
            self._advance_state(chunk, values)
        if chunk.sequence.is_pooled:
            self._pool(chunk, values)
        return values

    def _advance_state(self, chunk: ScheduledChunk, values: list[int]) -> None:
        """Check that the slot has the state of all tokens before the chunk; leave that after it."""
        slot = chunk.sequence.slot
        assert 0 <= slot < self.limits.max_running
        assert slot not in [s.slot for s in self.scheduler._running if s is not chunk.sequence]
        if chunk.position:
            assert self.contents.states[slot] == values[chunk.position - 1]
        self.contents.states[slot] = values[-1]

    def _pool(self, chunk: ScheduledChunk, values: list[int]) -> None:
        slot = chunk.sequence.slot
        assert 0 <= slot < self.limits.max_running
        if chunk.position == 0:
            self.contents.sums[slot] = []
        self.contents.sums[slot] += values[chunk.position :]

    def _end_pooled(self, chunk: ScheduledChunk) -> None:
        """Check that every position was pooled once, whoever had the slot before."""
        request = chunk.sequence.request
        assert self.contents.sums[chunk.sequence.slot] == hashes(request.prompt)
        assert self.scheduler.num_cached(request.id) == 0
        self.scheduler.finish(request.id)
        self.num_pooled += 1
        self._drop(request.id)

    def _draw(self, request_id: int, tokens: Sequence[int]) -> None:
        request, answer = self.requests[request_id], self.answers[request_id]
        room = self.limits.context_tokens - len(request.prompt)
        limit = min(request.max_tokens, room)
        if limit > 0:
            answer += tokens
        if len(answer) >= limit or tokens[-1] == END_TOKEN:
            self.num_cached_tokens += self.scheduler.num_cached(request_id)
            self.scheduler.finish(request_id)
            assert answer == answer_alone(request.prompt, limit)
            self.num_completed += 1
            self._drop(request_id)

    def _take_ended(self) -> None:
        for ended in self.scheduler.take_ended():
            if ended.error is not None:
                self._note(ended.error)
            if isinstance(ended.error, OverloadError):
                most = self.scheduler.admission.most_tokens(self.requests[ended.request_id])
                assert not self.scheduler.admission.suffices(most), "it only had to wait"
            self._drop(ended.request_id)

    def _note(self, error: OverloadError | DeadlineError) -> None:
        text = str(error)
        assert any(character.isdigit() for character in text)
        assert text.endswith(".")
        self.refused.append(error)

    def _drop(self, request_id: int) -> None:
        del self.requests[request_id], self.answers[request_id]
