"""States of sequences: which snapshots are kept, where prompts go on, and what the disk has."""

import random
from pathlib import Path

from support.page_world import World, answer_alone
from support.pages import IDENTITY, PAGE_BYTES, chain, page_paths, pages_of
from tonnage.core.kv_format import PAGE_TOKENS
from tonnage.kvcache.page_store import PageStore
from tonnage.kvcache.page_tier import PageTier
from tonnage.kvcache.pages import LOST, PageGroup
from tonnage.kvcache.prefix_node import Node
from tonnage.kvcache.states import StatePool
from tonnage.scheduler.limits import SchedulerLimits
from tonnage.scheduler.sequence import Request

STATE_BYTES = 96


class Places:
    """States as text by their places."""

    def __init__(self, **states: str) -> None:
        self.states = {int(name[1:]): state for name, state in states.items()}

    def copy_state(self, source: int, target: int) -> None:
        self.states[target] = self.states[source]

    def read_state(self, place: int) -> bytes:
        return self.states[place].encode().ljust(STATE_BYTES, b"\0")

    def write_state(self, place: int, data: bytes) -> None:
        self.states[place] = data.rstrip(b"\0").decode()


def node(token: int) -> Node:
    return Node(None, (token,), [])


def test_the_snapshot_used_least_recently_gives_way() -> None:
    places = Places(_0="a", _1="b")
    pool = StatePool(2, 2, places)
    first, second, third = node(1), node(2), node(3)
    pool.keep(first, 0)
    pool.keep(second, 1)
    pool.restore(first, 1)
    assert places.states[1] == "a"
    told: list[Node] = []
    pool.before_eviction = told.append
    pool.keep(third, 1)
    assert told == [second]
    assert second.snapshot == LOST
    assert {first.snapshot, third.snapshot} == {2, 3}
    pool.check()


def test_a_state_that_is_kept_already_is_not_copied() -> None:
    places = Places(_0="a")
    pool = StatePool(1, 2, places)
    one = node(1)
    pool.keep(one, 0)
    places.states[0] = "behind other tokens"
    pool.keep(one, 0)
    assert places.states[one.snapshot] == "a"
    pool.check()


def test_a_step_that_is_thrown_away_leaves_the_state_of_before() -> None:
    places = Places(_0="before")
    pool = StatePool(1, 1, places)
    place = pool.hold(0)
    assert place is not None
    assert pool.hold(0) is None, "all places are held"
    places.states[0] = "after"
    pool.roll_back(place, 0)
    pool.drop(place)
    assert places.states[0] == "before"
    pool.check()


def test_without_snapshots_nothing_is_kept() -> None:
    pool = StatePool(2, 0, Places(_0="a"))
    one = node(1)
    pool.keep(one, 0)
    assert one.snapshot == LOST
    assert pool.hold(0) is None


def world(num_snapshots: int = 8, **changes: int) -> World:
    given = {"max_running": 4, "max_batch_tokens": 256, "max_logit_rows": 8, "context_tokens": 1024}
    limits = SchedulerLimits(**{**given, **changes})
    return World(
        (PageGroup(40, 1000),), limits, random.Random(1), num_snapshots=num_snapshots, most_drafts=0
    )


def answer(one: World, request_id: int, prompt: list[int], max_tokens: int) -> tuple[int, int]:
    """Return how many tokens were found in the cache, and how many rows were computed."""
    one.scheduler.submit(Request(request_id, prompt, max_tokens, one.now_ns))
    one.requests[request_id] = Request(request_id, prompt, max_tokens, one.now_ns)
    one.answers[request_id] = []
    before, begin_ns = one.num_cached_tokens, one.now_ns
    while one.requests:
        one.step()
        one.check()
    return one.num_cached_tokens - before, (one.now_ns - begin_ns) // 1000


def endless(num_tokens: int, size: int) -> list[int]:
    """Return a prompt whose answer does not end before `num_tokens`."""
    rng = random.Random(3)
    while len(answer_alone(prompt := [rng.randrange(4) for _ in range(size)], num_tokens)) < (
        num_tokens
    ):
        pass
    return prompt


def test_the_next_turn_goes_on_where_the_last_one_ended() -> None:
    one = world()
    prompt = endless(20, 100)
    assert answer(one, 0, prompt, 20) == (0, 119)
    turn = [*prompt, *answer_alone(prompt, 20), 1, 2, 3]
    # The last token that was drawn was never computed.
    assert answer(one, 1, turn, 1) == (119, 4)
    # One token of difference before that end, and the last border of a page serves.
    other = [*turn[:110], (turn[110] + 1) % 4, *turn[111:]]
    assert answer(one, 2, other, 1) == (64, len(other) - 64)


def test_a_common_beginning_is_found_at_the_border_of_a_page() -> None:
    one = world()
    answer(one, 0, [2] * 150 + [1], 1)
    # A state cannot be cut, so what agrees beyond the border is computed again.
    assert answer(one, 1, [2] * 150 + [3], 1) == (128, 23)
    assert answer(world(0), 2, [2] * 151, 1) == (0, 151)


def test_one_long_answer_takes_one_snapshot() -> None:
    """Those that prompts left stay, however many pages an answer fills."""
    one = world(num_snapshots=5)
    answer(one, 0, [2] * 130, 1)
    long = endless(300, 70)
    answer(one, 1, long, 300)
    cached, _ = answer(one, 2, [2] * 130, 1)
    assert cached == 128


def test_equal_prompts_that_run_together_share_what_the_first_has_computed() -> None:
    one = world()
    for request_id in range(3):
        request = Request(request_id, [3] * 512 + [request_id], 1, one.now_ns)
        one.scheduler.submit(request)
        one.requests[request_id], one.answers[request_id] = request, []
    while one.requests:
        one.step()
        one.check()
    assert one.now_ns // 1000 == 512 + 3


def test_wrong_drafts_are_computed_again_from_the_state_of_before() -> None:
    one = world()
    prompt = endless(40, 30)
    one.scheduler.submit(Request(0, prompt, 40, 0))
    one.requests[0], one.answers[0] = Request(0, prompt, 40, 0), []
    while not one.answers[0]:
        one.step()
    (sequence,) = one.scheduler.decoding()
    right = answer_alone(prompt, 40)[1:4]
    one.scheduler.drafts.propose(sequence, [*right[:2], (right[2] + 1) % 4, 0])
    before = sequence.num_computed
    one.step()
    # Two drafts were right, so three tokens are known, and none of the step is computed.
    assert len(one.answers[0]) == 4
    assert (sequence.num_computed, sequence.num_pending) == (before, 4)
    one.check()
    one.step()
    assert sequence.num_pending == 1
    one.drain()


class Pages:
    """One page of memory."""

    def __init__(self) -> None:
        self.pages = {(0, 5): b"p" * PAGE_BYTES}

    def read_page(self, group: int, page: int) -> bytes:
        return self.pages[group, page]

    def write_page(self, group: int, page: int, data: bytes) -> None:
        self.pages[group, page] = data


def test_snapshots_go_to_disk_with_their_pages(tmp_path: Path) -> None:
    store = PageStore(tmp_path, IDENTITY, (PAGE_BYTES, STATE_BYTES), 1 << 30, keep_free_bytes=0)
    places = Places(_7="behind page one")
    pages = Pages()
    tier = PageTier(store, pages, places)
    first, second = pages_of(store, chain(2))
    tier.put(first.key, first.tokens, [5], 7)
    tier.put(second.key, second.tokens, [5])
    assert tier.has_state(first.key)
    assert not tier.has_state(second.key)
    assert tier.get(first.key, first.tokens, [9], 8)
    assert places.states[8] == "behind page one"
    # A page without the state that is wanted is a miss, and nothing is written.
    assert not tier.get(second.key, second.tokens, [11], 9)
    assert (0, 11) not in pages.pages
    assert 9 not in places.states
    assert len(page_paths(tmp_path)) == 3
    assert len(first.tokens) == PAGE_TOKENS
