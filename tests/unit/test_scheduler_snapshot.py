"""What an observer is shown of a scheduler."""

import random

import pytest

from support.page_world import World
from support.yardstick import cpu_seconds, loop_seconds
from tonnage.kvcache.pages import PageGroup
from tonnage.scheduler.events import MOST_EVENTS, Events
from tonnage.scheduler.limits import SchedulerLimits
from tonnage.scheduler.sequence import Request
from tonnage.scheduler.snapshot import MOST_NODES, MOST_SEQUENCES, Branch, snapshot_of

SECOND = 1_000_000_000


def world(num_pages: int = 64, max_running: int = 8) -> World:
    limits = SchedulerLimits(max_running, 128, 8, 1024, max_waiting=4096, max_stall_ns=40_000)
    return World((PageGroup(num_pages, 1000),), limits, random.Random(1))


def ask(one: World, request_id: int, prompt: list[int], max_tokens: int, **terms: object) -> None:
    request = Request(request_id, prompt, max_tokens, one.now_ns, **terms)
    one.scheduler.submit(request)
    one.requests[request_id], one.answers[request_id] = request, []


def finish(one: World) -> None:
    """Let everything end; unlike `drain` it leaves the prefixes."""
    while one.requests:
        one.step()


def shapes(branches: list[Branch] | tuple[Branch, ...]) -> list:
    return sorted((b.num_tokens, b.num_pages, shapes(b.children)) for b in branches)


def test_prefixes_are_shown_up_to_where_they_part() -> None:
    one = world()
    for number, tail in enumerate(([1] * 64, [2] * 130)):
        ask(one, number, [0] * 128 + tail + [3], 1)
        finish(one)
    view = snapshot_of(one.scheduler, one.now_ns + 5 * SECOND)
    # The second tail is two pages; three tokens behind it are too few to keep.
    assert shapes(view.branches) == [(128, 2, [(64, 1, []), (128, 2, [])])]
    assert view.num_hidden == 0
    assert view.num_cached == 5
    assert 5 * SECOND <= view.branches[0].idle_ns < 6 * SECOND
    assert view.branches[0].to_dict()["children"][0]["tokens"] == 128, "the latest used first"


def test_tenants_are_told_by_shape_alone() -> None:
    one = world()
    ask(one, 0, [0] * 65, 1, tenant="alice", salt="pepper")
    ask(one, 1, [0] * 65, 1, tenant="bob", salt="thyme")
    finish(one)
    view = snapshot_of(one.scheduler, one.now_ns)
    assert shapes(view.branches) == [(64, 1, []), (64, 1, [])]
    assert not any(word in repr(view) for word in ("alice", "bob", "pepper", "thyme"))


def test_states_and_shared_pages() -> None:
    one = world(max_running=2)
    ask(one, 0, [0] * 65, 1)
    finish(one)
    for number in (1, 2, 3):
        ask(one, number, [0] * 64 + [number], 50)
    one.step()
    one.step()
    view = snapshot_of(one.scheduler, one.now_ns)
    assert [s.state for s in view.sequences] == ["writing", "writing", "waiting"]
    assert [s.num_pages for s in view.sequences] == [2, 2, 0]
    assert [s.shared_pages for s in view.sequences] == [0, 1, 0]
    assert sum(s.num_pages - s.shared_pages for s in view.sequences) == view.num_used
    assert (view.num_running, view.num_waiting) == (2, 1)
    one.scheduler.set_stalled(1, stalled=True)
    assert snapshot_of(one.scheduler, one.now_ns).sequences[0].state == "paused"


def test_pressure_is_logged_with_its_age() -> None:
    one = world(num_pages=4)
    for number in range(3):
        ask(one, number, [number] * 130, 60)
    finish(one)
    view = snapshot_of(one.scheduler, one.now_ns + 2 * SECOND)
    texts = [text for _, text in view.events]
    assert any("pages of unused prefixes were evicted" in text for text in texts)
    assert all(age_ns >= 2 * SECOND for age_ns, _ in view.events)
    assert view.levels["evict"] > 0


def test_evictions_in_a_row_are_one_sentence_and_old_ones_go() -> None:
    said: list[str] = []
    events = Events(said.append)
    events.evicted(2)
    events.now_ns = 7
    events.evicted(3)
    assert events.last() == ((7, "5 pages of unused prefixes were evicted."),)
    for number in range(MOST_EVENTS + 5):
        events.add(str(number))
    assert [text for _, text in events.last()] == said[5:]


@pytest.mark.quiet
def test_a_look_is_bounded_however_much_there_is() -> None:
    one = world(num_pages=3000)
    for number in range(600):
        ask(one, number, [number // 2] * 64 + [number % 2] * 64 + [3], 1)
    finish(one)
    for number in range(1000, 1200):
        ask(one, number, [0] * 10, 1)
    seconds = cpu_seconds(lambda: snapshot_of(one.scheduler, one.now_ns))
    view = snapshot_of(one.scheduler, one.now_ns)
    assert len(view.sequences) == MOST_SEQUENCES

    def count(branches: list[Branch]) -> int:
        return sum(1 + count(branch.children) for branch in branches)

    assert count(list(view.branches)) <= MOST_NODES
    assert view.num_hidden > 0
    assert seconds < loop_seconds()
