"""Ends that the scheduler decides: deadlines, and a budget that a request can never fit."""

import random

import pytest

from support.page_world import World
from tonnage.core.errors import DeadlineError, OverloadError
from tonnage.kvcache.pages import PageGroup
from tonnage.scheduler.limits import SchedulerLimits
from tonnage.scheduler.scheduler import Ended, Scheduler
from tonnage.scheduler.sequence import Request

SECOND = 10**9


def scheduler(num_pages: int = 16) -> Scheduler:
    limits = SchedulerLimits(
        max_running=1, max_batch_tokens=64, max_logit_rows=4, context_tokens=512
    )
    return World((PageGroup(num_pages, 1000),), limits, random.Random(1)).scheduler


def step(one: Scheduler, now_ns: int) -> list[int]:
    """Run a step in which every request that samples samples 1; return whose rows it had."""
    chunks = one.next_step(now_ns)
    one.commit(chunks, {c.request_id: [1] for c in chunks if c.num_logit_rows}, 1000)
    return [chunk.request_id for chunk in chunks]


def test_at_its_deadline_a_request_with_a_token_ends_and_one_without_is_refused() -> None:
    one = scheduler()
    one.submit(Request(1, [1] * 10, 50, 0, deadline_ns=3 * SECOND))
    one.submit(Request(2, [2] * 10, 50, SECOND // 2, deadline_ns=3 * SECOND))
    one.submit(Request(3, [3] * 10, 50, SECOND, deadline_ns=3 * SECOND + 1))
    one.submit(Request(4, [4] * 10, 50, SECOND))
    assert step(one, SECOND) == [1]
    assert step(one, 3 * SECOND - 1) == [1]
    assert one.take_ended() == []
    assert step(one, 3 * SECOND) == [3]
    first, second = one.take_ended()
    assert first == Ended(1, None)
    assert second.request_id == 2
    assert isinstance(second.error, DeadlineError)
    assert "this request, 2.5 s, ended before its first token" in str(second.error)
    assert one.take_ended() == [], "they are told once"
    assert step(one, 3 * SECOND + 1) == [4]
    assert one.take_ended() == [Ended(3, None)]
    assert step(one, 1000 * SECOND) == [4], "without a deadline it goes on"
    assert (one.num_running, one.num_waiting) == (1, 0)


def test_what_can_never_fit_a_smaller_budget_is_refused_and_the_rest_goes_on() -> None:
    one = scheduler(8)
    one.submit(Request(1, [1] * 300, 50, 0))
    one.submit(Request(2, [2] * 100, 20, 0))
    step(one, 0)
    one.set_budget(5000)
    (ended,) = one.take_ended()
    assert ended.request_id == 1
    assert isinstance(ended.error, OverloadError)
    # 349 positions are computed at most: six pages, of which there are five.
    assert str(ended.error).startswith("349 tokens take 5.9 KiB of KV pages and there are 4.9 KiB;")
    assert ended.error.missing_bytes == 1000
    assert ended.error.retry_after_s is None
    assert one.pressure.counts["refuse"] == 1
    assert step(one, 0) == [2]


@pytest.mark.parametrize(("num_bytes", "pages"), [(4999, 4), (5000, 5), (8000, 8), (9000, 8)])
def test_a_budget_is_a_share_of_the_planned_pages(num_bytes: int, pages: int) -> None:
    one = scheduler(8)
    one.set_budget(num_bytes)
    assert one.cache.pools[0].num_total == pages
    one.set_budget(1 << 40)
    assert one.cache.pools[0].num_total == 8
