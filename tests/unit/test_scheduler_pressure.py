"""Levels of pressure, one after the other: what is given up, what is counted, and what is said."""

import random
from array import array

import pytest

from support.page_world import World
from tonnage.kvcache.page_cache import PageCache
from tonnage.kvcache.pages import PageGroup
from tonnage.scheduler.limits import SchedulerLimits
from tonnage.scheduler.pressure import PressureLevels
from tonnage.scheduler.sequence import Request, Sequence

PAGE_BYTES = 3 << 10
NONE = {"evict": 0, "store": 0, "shrink": 0, "preempt": 0, "refuse": 0}


class NoBytes:
    """Pages that nobody reads."""

    def copy(self, group: int, source: int, target: int) -> None:
        pass

    def release(self, group: int, pages: list[int]) -> None:
        pass


class Pages:
    """A pool of pages, requests that run on it, and what is told of it."""

    def __init__(self, num_pages: int, *more: PageGroup) -> None:
        self.cache = PageCache((PageGroup(num_pages, PAGE_BYTES), *more), NoBytes())
        self.log: list[str] = []
        self.running: list[Sequence] = []
        self.pressure = PressureLevels(self.cache, self._preempt, self.log.append)

    def run(self, request_id: int, num_tokens: int, **terms: object) -> Sequence:
        """Let a request that came at `request_id` ns have all of its tokens computed."""
        prompt = [request_id] * num_tokens
        request = Request(request_id, prompt, 100, request_id, **terms)  # type: ignore[arg-type]
        one = Sequence(request, array("i", prompt))
        one.admit(self.cache, one.match(self.cache))
        one.grow(self.cache, num_tokens)
        one.commit(self.cache, num_tokens)
        self.running.append(one)
        return one

    def find(self, one: Sequence, num_rows: int) -> int:
        return self.pressure.find_pages(one, num_rows, tuple(self.running))

    def ids(self) -> list[int]:
        return [one.request.id for one in self.running]

    def _preempt(self, victim: Sequence) -> None:
        victim.release(self.cache)
        self.running.remove(victim)


def test_where_there_are_pages_nothing_is_given_up() -> None:
    one = Pages(3)
    first = one.run(1, 64)
    assert one.find(first, 10) == 10
    assert one.find(first, 500) == 128
    assert one.pressure.counts == NONE
    assert one.log == []
    assert not one.pressure.shrunk


def test_prefixes_that_nobody_uses_go_first() -> None:
    one = Pages(3)
    gone, first = one.run(1, 64), one.run(2, 64)
    gone.release(one.cache)
    one.running.remove(gone)
    assert one.find(first, 128) == 128
    first.grow(one.cache, 128)
    assert one.pressure.counts == {**NONE, "evict": 1}
    assert one.log == []


def test_the_youngest_gives_way_and_the_batch_shrinks() -> None:
    one = Pages(4)
    first, *_ = one.run(1, 64), one.run(2, 128), one.run(3, 64)
    assert one.find(first, 10) == 10
    assert one.ids() == [1, 2]
    assert one.pressure.counts == {**NONE, "shrink": 1, "preempt": 1}
    assert one.pressure.shrunk
    assert one.log == [
        "Pages are short: the batch stays at 3 until one has ended.",
        "Request 3 is preempted at 64 tokens to free 3.0 KiB.",
    ]
    first.grow(one.cache, 64)
    first.commit(one.cache, 64)
    assert one.find(first, 10) == 10
    assert one.ids() == [1]
    # It shrinks once, until one has ended.
    assert one.pressure.counts == {**NONE, "evict": 1, "shrink": 1, "preempt": 2}
    assert one.log[2:] == ["Request 2 is preempted at 128 tokens to free 6.0 KiB."]
    one.pressure.shrunk = False
    one.pressure.shrink(1)
    assert one.pressure.counts["shrink"] == 2


def test_as_many_are_preempted_as_it_takes() -> None:
    one = Pages(3)
    first, _, last = one.run(1, 64), one.run(2, 64), one.run(3, 64)
    (page,) = last.tables[0]
    one.cache.pools[0].use(page)  # it lies in the last one's table and in somebody else's
    assert one.find(first, 10) == 10
    assert one.ids() == [1]
    assert one.pressure.counts == {**NONE, "shrink": 1, "preempt": 2}


def test_a_request_never_preempts_an_older_one() -> None:
    one = Pages(2)
    one.run(1, 64)
    second = one.run(2, 64)
    assert one.find(second, 10) == 0
    assert one.ids() == [1, 2]
    assert one.pressure.counts == {**NONE, "shrink": 1}


@pytest.mark.parametrize(
    ("changes", "gone"),
    [
        ({}, [4, 3, 2]),
        ({2: {"priority": -1}}, [2, 4, 3]),
        ({2: {"priority": -1}, 3: {"priority": -2}}, [3, 2, 4]),
        ({4: {"priority": 1}}, [3, 2]),
        ({2: {"stalled": True}}, [2, 4, 3]),
        ({2: {"stalled": True}, 3: {"stalled": True, "priority": -1}}, [3, 2, 4]),
        ({4: {"stalled": True, "priority": 1}}, [4, 3, 2]),
    ],
    ids=str,
)
def test_who_is_preempted(changes: dict[int, dict[str, object]], gone: list[int]) -> None:
    """Those whose readers do not read, then of the lowest priority, then the youngest."""
    one = Pages(4)
    for request_id in (1, 2, 3, 4):
        terms = dict(changes.get(request_id, {}))
        stalled = bool(terms.pop("stalled", False))
        one.run(request_id, 64, **terms).stalled = stalled
    first, left = one.running[0], one.ids()
    for expected in gone:
        victim = one.pressure.victim(first, one.running)
        assert victim is not None
        assert victim.request.id == expected
        one.pressure.preempt(victim)
        left.remove(expected)
    assert one.ids() == left
    assert one.pressure.victim(first, one.running) is None
    assert one.pressure.counts["preempt"] == len(gone)


def test_one_that_was_preempted_already_is_no_victim() -> None:
    one = Pages(4)
    first, second = one.run(1, 64), one.run(2, 64)
    second.running = False
    assert one.pressure.victim(first, [first, second]) is None


def test_bytes_are_those_of_pages_that_are_held() -> None:
    one = Pages(4, PageGroup(4, 1000, window_tokens=70))
    first = one.run(1, 192)
    # A row at 192 looks back to 122, so the window's first page is left.
    assert one.pressure.held_bytes(first) == 3 * PAGE_BYTES + 2 * 1000


@pytest.mark.parametrize(
    ("retry_after_s", "way"),
    [(None, "ask for fewer tokens or give the engine more memory"), (3.4, "retry in 3 s")],
)
def test_what_does_not_fit_alone_is_refused_with_bytes(
    retry_after_s: float | None, way: str
) -> None:
    one = Pages(4, PageGroup(4, 1024, window_tokens=70))
    for number in (1, 2):
        error = one.pressure.refusal(1000, 64, retry_after_s)
        # 16 pages of the first group and four of the window's: 48 KiB and 4 KiB.
        assert str(error) == (
            f"1,000 tokens take 52.0 KiB of KV pages and there are 16.0 KiB; {way}."
        )
        assert (error.missing_bytes, error.retry_after_s) == (36 << 10, retry_after_s)
        assert one.pressure.counts == {**NONE, "refuse": number}
        assert one.log == [f"Refused: {error}"] * number
    assert one.pressure.refusal(10, 64, 1.0).missing_bytes == 1


def test_a_full_queue_says_what_is_missing_and_when_to_retry() -> None:
    one = Pages(4)
    one.run(1, 64)
    for number, (needed, missing) in enumerate(((5, 2), (3, 0), (1, 0)), start=1):
        error = one.pressure.queue_refusal(7, needed * PAGE_BYTES, 2.6)
        assert str(error) == (
            f"7 requests are waiting already, and this one needs {needed * 3}.0 KiB of KV pages; "
            "retry in 3 s."
        )
        assert (error.missing_bytes, error.retry_after_s) == (missing * PAGE_BYTES, 2.6)
        assert one.pressure.counts == {**NONE, "refuse": number}
        assert one.log[-1] == f"Refused: {error}"


def test_while_pages_are_short_nobody_is_admitted_until_one_has_ended() -> None:
    limits = SchedulerLimits(
        max_running=4, max_batch_tokens=64, max_logit_rows=4, context_tokens=512
    )  # fmt: skip
    one = World((PageGroup(40, 1000),), limits, random.Random(1))
    for request_id, num_tokens in ((0, 300), (1, 10)):
        request = Request(request_id, [3] * num_tokens, 1, request_id)
        one.requests[request_id], one.answers[request_id] = request, []
        one.scheduler.submit(request)
        if request_id == 0:
            one.step()
            one.scheduler.pressure.shrink(1)
    while 0 in one.requests:
        assert one.scheduler.num_running == 1
        one.step()
    assert 1 in one.requests
    one.step()
    assert not one.requests
    assert not one.scheduler.pressure.shrunk
