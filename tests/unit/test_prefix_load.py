"""Prefixes from the page store come in slices while answers are written."""

import random

from support.page_world import World, answer_alone
from tonnage.kvcache.pages import PageGroup
from tonnage.scheduler.limits import SchedulerLimits
from tonnage.scheduler.sequence import Request

LONG = [2] * 1300
NUM_PAGES = 1300 // 64


class Kept(random.Random):
    """Lets a store lose nothing."""

    def random(self) -> float:
        return 0.9


def world(load_bytes: int, pages: int = 64) -> World:
    """Return a world whose store has the pages of LONG and whose memory has none."""
    limits = SchedulerLimits(
        max_running=4, max_batch_tokens=128, max_logit_rows=4, context_tokens=2048,
        max_stall_ns=40_000, load_bytes=load_bytes,
    )  # fmt: skip
    one = World((PageGroup(pages, 1000),), limits, random.Random(1), with_store=True)
    one.store._rng = Kept()
    ask(one, 0, LONG, 1)
    while one.requests:
        one.step()
    one.set_budget(0)
    one.set_budget(1)
    assert one.store.num_hits == 0
    assert one.scheduler.cache.pools[0].num_cached == 0
    return one


def ask(
    one: World, request_id: int, prompt: list[int], max_tokens: int, *, live: bool = True
) -> None:
    request = Request(request_id, prompt, max_tokens, one.now_ns, live=live)
    one.scheduler.submit(request)
    one.requests[request_id], one.answers[request_id] = request, []


def stream(one: World, *, live: bool = True) -> None:
    """Begin an answer that does not end before 60 tokens."""
    rng = random.Random(2)
    while len(answer_alone(prompt := [rng.randrange(4) for _ in range(20)], 60)) < 60:
        pass
    ask(one, 1, prompt, 60, live=live)
    one.step()


def slices(one: World) -> list[int]:
    """Ask for LONG; return how many pages each step loaded until its answer came."""
    ask(one, 2, LONG, 1)
    found = []
    while 2 in one.requests:
        before, written = one.store.num_hits, len(one.answers.get(1, []))
        assert one.step()
        found.append(one.store.num_hits - before)
        if 1 in one.answers:
            assert len(one.answers[1]) == written + 1
        one.check()
    return found


def test_a_long_prefix_comes_in_slices_beside_a_stream() -> None:
    one = world(load_bytes=3500)
    stream(one)
    cached = one.num_cached_tokens
    found = slices(one)
    assert max(found) == 3
    assert sum(found) == NUM_PAGES
    assert one.num_cached_tokens - cached == NUM_PAGES * 64
    one.drain()


def test_a_page_larger_than_a_slice_still_comes() -> None:
    one = world(load_bytes=1)
    stream(one)
    assert slices(one).count(1) == NUM_PAGES


def test_where_nobody_waits_a_prefix_comes_at_once() -> None:
    one = world(load_bytes=3500)
    assert slices(one) == [NUM_PAGES]
    one = world(load_bytes=3500)
    stream(one, live=False)
    assert slices(one)[0] == NUM_PAGES
    one.drain()


def test_a_cancelled_load_holds_nothing() -> None:
    one = world(load_bytes=3500)
    stream(one)
    ask(one, 2, LONG, 1)
    for _ in range(3):
        one.step()
    assert one.scheduler.cache.pools[0].num_cached >= 9
    one.scheduler.cancel(2)
    one._drop(2)
    one.check()
    one.drain()


def test_a_load_whose_pages_are_evicted_meanwhile_ends_and_the_answer_is_right() -> None:
    one = world(load_bytes=3500)
    stream(one)
    ask(one, 2, LONG, 1)
    for _ in range(3):
        one.step()
    one.scheduler.cache.tree.clear()
    while 2 in one.requests:
        assert one.step()
        one.check()
    assert one.store.num_hits >= 9
    one.drain()
