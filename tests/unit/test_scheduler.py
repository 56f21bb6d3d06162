"""What the scheduler promises, one thing at a time."""

import random
from dataclasses import replace

import pytest

from support.page_world import World, answer_alone
from tonnage.core.errors import OverloadError
from tonnage.kvcache.pages import PageGroup
from tonnage.scheduler.limits import SchedulerLimits
from tonnage.scheduler.sequence import Request
from tonnage.scheduler.step_time import StepTimeEstimator, most_rows

ROOMY = (PageGroup(64, 1000),)


def limits(**changes: int) -> SchedulerLimits:
    given = {"max_running": 8, "max_batch_tokens": 128, "max_logit_rows": 8, "context_tokens": 1024}
    return SchedulerLimits(**{**given, "max_stall_ns": 40_000, **changes})


def world(groups: tuple[PageGroup, ...] = ROOMY, **changes: int) -> World:
    """Return a world in which a row takes a microsecond."""
    return World(groups, limits(**changes), random.Random(1))


def ask(one: World, request_id: int, prompt: list[int], max_tokens: int, **terms: object) -> None:
    request = Request(request_id, prompt, max_tokens, one.now_ns, **terms)
    one.scheduler.submit(request)
    one.requests[request_id], one.answers[request_id] = request, []


def endless(count: int, size: int, salt: int = 0, num_tokens: int = 60) -> list[list[int]]:
    """Return prompts whose answers do not end before `num_tokens`."""
    rng, found = random.Random(salt), []
    while len(found) < count:
        prompt = [rng.randrange(4) for _ in range(size)]
        if len(answer_alone(prompt, num_tokens)) == num_tokens:
            found.append(prompt)
    return found


def test_a_long_prompt_stalls_nobody_beyond_the_bound() -> None:
    one = world()
    for number, prompt in enumerate(endless(4, 20)):
        ask(one, number, prompt, 60)
    while any(not one.answers[number] for number in range(4)):
        one.step()
    ask(one, 9, [3] * 1000, 1)
    gaps = []
    while len(one.requests) == 5:
        before, counts = one.now_ns, [len(one.answers[n]) for n in range(4)]
        one.step()
        gaps.append(one.now_ns - before)
        assert all(len(one.answers[n]) == counts[n] + 1 for n in range(4) if n in one.answers)
    assert max(gaps) <= 40_000
    # A prompt of 1,000 rows in chunks of what 70 % of the bound leave beside four streams.
    assert len(gaps) >= 1000 // 28
    one.drain()


def test_as_many_run_as_have_pages_for_all_they_can_become() -> None:
    one = world((PageGroup(24, 1000),), max_batch_tokens=2048)
    for number, prompt in enumerate(endless(8, 128)):
        ask(one, number, prompt, 65)
    one.step()
    assert one.scheduler.num_running == 8
    one.drain()
    assert one.scheduler.pressure.counts["preempt"] == 0
    # Those that may become longer than that leave a page to each other.
    one = world((PageGroup(24, 1000),), max_batch_tokens=2048)
    for number, prompt in enumerate(endless(8, 128)):
        ask(one, number, prompt, 66)
    one.step()
    assert one.scheduler.num_running == 7


def test_a_batch_that_nobody_waits_for_is_read_in_whole_steps() -> None:
    for live, most in ((True, 28), (False, 128)):
        one = world()
        (first,) = endless(1, 20)
        ask(one, 0, first, 60, live=live)
        one.step()
        ask(one, 1, [3] * 500, 1, live=False)
        chunks = one.scheduler.next_step(one.now_ns)
        assert sum(len(chunk.tokens) for chunk in chunks) == most


def test_without_streams_a_prompt_takes_whole_steps() -> None:
    one = world()
    ask(one, 0, [3] * 300, 1)
    chunks = one.scheduler.next_step(0)
    assert [len(chunk.tokens) for chunk in chunks] == [128]


def test_equal_prompts_are_computed_once() -> None:
    one = world()
    shared = [2] * 512
    for number in range(4):
        ask(one, number, [*shared, number], 1)
    computed = 0
    while one.requests:
        chunks = one.scheduler.next_step(one.now_ns)
        computed += sum(len(chunk.tokens) for chunk in chunks)
        sampled = {p.request_id: [0] for p in chunks if p.num_logit_rows}
        for chunk in chunks:
            one._compute(chunk)
        one.scheduler.commit(chunks, sampled, 1)
        for request_id in sampled:
            one.scheduler.finish(request_id)
            one._drop(request_id)
    assert computed == 512 + 4


def test_tenants_get_equal_rows() -> None:
    one = world(max_running=2)
    served = []
    for number, prompt in enumerate(endless(8, 64)):
        ask(one, number, prompt, 30, tenant="many")
    for number, prompt in enumerate(endless(2, 64, salt=1)):
        ask(one, 10 + number, prompt, 30, tenant="few")
    while one.requests:
        before = set(one.requests)
        one.step()
        served += sorted(before - set(one.requests))
    # Those of the tenant with few requests are not behind all of the other's.
    assert served.index(10) < 4
    assert served.index(11) < 7


def test_priority_preempts_and_the_preempted_resumes() -> None:
    one = world(max_running=1)
    low, high = endless(2, 70)
    ask(one, 0, low, 60)
    for _ in range(10):
        one.step()
    ask(one, 1, high, 5, priority=1)
    one.step()
    assert (one.scheduler.num_running, one.scheduler.num_waiting) == (1, 1)
    assert one.scheduler.pressure.counts["preempt"] == 1
    assert "preempted at" in "\n".join(one.log)
    while 0 in one.requests:
        one.step()  # compares the answer with the one alone
    assert one.num_completed == 2


def test_a_request_that_never_fits_is_refused_at_once() -> None:
    one = world((PageGroup(4, 1000),))
    with pytest.raises(OverloadError, match="300 tokens take") as caught:
        ask(one, 0, [1] * 200, 101)
    assert caught.value.missing_bytes == 1000
    assert caught.value.retry_after_s is None
    ask(one, 0, [1] * 200, 50)


def test_nobody_is_refused_because_somebody_younger_finds_no_page() -> None:
    """Only one answer a step may be written, and it is the turn of the one without a page."""
    one = world((PageGroup(6, 1000),), max_stall_ns=1000)
    (old,), (young,) = endless(1, 90, num_tokens=120), endless(1, 125, num_tokens=120)
    ask(one, 0, old, 120)
    one.step()
    ask(one, 1, young, 120)
    while 1 in one.requests or 0 in one.requests:
        assert one.step()
    assert one.scheduler.pressure.counts["refuse"] == 0
    assert one.num_completed == 2


def test_a_shrinking_budget_evicts_then_shrinks_the_batch_then_preempts() -> None:
    one = world()
    for number, prompt in enumerate(endless(6, 200)):
        ask(one, number, prompt, 60)
    ask(one, 7, [1] * 100, 2)
    while 7 in one.requests:
        one.step()
    cached = one.scheduler.cache.pools[0].num_cached
    assert cached > 0
    one.set_budget(0.3)
    pool = one.scheduler.cache.pools[0]
    assert pool.num_total == 19
    assert one.contents.num_released == 64 - 19
    assert one.scheduler.num_waiting > 0
    words = [line.split()[0] for line in one.log]
    assert words.index("KV") < words.index("Pages") < words.index("Request")
    one.drain()
    assert one.num_completed >= 6


def test_an_answer_nobody_reads_gives_its_slot_away() -> None:
    one = world(max_running=1)
    first, second = endless(2, 30)
    ask(one, 0, first, 60)
    one.step()
    one.scheduler.set_stalled(0, stalled=True)
    assert not one.step()
    ask(one, 1, second, 3)
    while 1 in one.requests:
        assert one.step()
    assert not one.step()
    one.scheduler.set_stalled(0, stalled=False)
    one.drain()


def test_an_unread_answer_gives_its_slot_away_before_one_of_lower_priority() -> None:
    one = world(max_running=2)
    unread, lesser, later = endless(3, 30)
    ask(one, 0, unread, 60)
    ask(one, 1, lesser, 60, priority=-1)
    one.step()
    one.scheduler.set_stalled(0, stalled=True)
    ask(one, 2, later, 3)
    one.step()
    assert "Request 0 is preempted" in one.log[-1]
    assert {s.request.id for s in one.scheduler._running} == {1, 2}
    one.drain()


def test_estimates_is_on_the_safe_side() -> None:
    estimator = StepTimeEstimator()
    assert estimator.step_ns(100) == 0
    estimator.observe(4, 1000)
    assert estimator.step_ns(4) == 1000
    assert estimator.step_ns(64) == 16_000
    estimator.observe(64, 5000)
    assert 1000 < estimator.step_ns(32) < 5000
    assert estimator.step_ns(128) == 10_000
    assert most_rows(estimator.step_ns, 10_000, 1, 512) == 128
    assert most_rows(estimator.step_ns, 1, 3, 512) == 3
    # A slow step counts for long, and fades.
    estimator.observe(64, 50_000)
    estimator.observe(64, 5000)
    assert estimator.step_ns(64) == 43_750
    for _ in range(40):
        estimator.observe(64, 5000)
    assert estimator.step_ns(64) == 5000


def test_one_slow_step_does_not_keep_chunks_short() -> None:
    estimator = StepTimeEstimator()
    for rows in (4, 64, 128):
        estimator.observe(rows, 1000 * rows)
    estimator.observe(128, 900_000)
    longest = 0
    for _ in range(300):
        rows = most_rows(estimator.step_ns, 160_000, 12, 512)
        assert rows * 1000 <= 200_000
        longest = max(longest, rows)
        estimator.observe(rows, 1000 * rows)
        estimator.observe(12, 12_000)
    assert longest >= 150


def test_short_steps_do_not_make_long_ones_look_short() -> None:
    estimator = StepTimeEstimator()
    estimator.observe(256, 264_000)
    for _ in range(200):
        estimator.observe(4, 20_000)
    assert estimator.step_ns(256) == 264_000
    assert most_rows(estimator.step_ns, 160_000, 12, 512) < 160


def test_rows_that_become_slower_along_a_prompt_keep_the_bound() -> None:
    slowest = []
    for seed in range(20):
        rng, estimator, left = random.Random(seed), StepTimeEstimator(), 2000

        def took(rows: int, left: int, rng: random.Random) -> int:
            """Twice as long for a row at the end, and up to a tenth more by chance."""
            return int((25_000 + rows * (2100 - left * 1050 / 2000)) * (1 + rng.random() / 10))

        estimator.observe(4, took(4, left, rng))
        estimator.observe(128, took(128, left, rng))
        while left > 0:
            rows = most_rows(estimator.step_ns, 160_000, 12, min(512, left + 4))
            slowest.append(took(rows, left, rng))
            estimator.observe(rows, slowest[-1])
            left -= rows - 4
            if rng.random() < 0.3:
                estimator.observe(4, took(4, left, rng))
    assert max(slowest) <= 200_000


def test_estimates_never_falls_with_rows() -> None:
    rng, estimator = random.Random(4), StepTimeEstimator()
    for _ in range(200):
        estimator.observe(rng.randrange(1, 513), rng.randrange(1, 10_000))
        times = [estimator.step_ns(rows) for rows in range(1, 513)]
        assert times == sorted(times)


def test_pooled_texts_share_nothing_and_leave_nothing() -> None:
    one = world()
    shared = [2] * 256
    ask(one, 0, [*shared, 1], 1)
    while one.requests:
        one.step()
    kept = one.scheduler.cache.tree.num_nodes
    for number in range(1, 4):
        ask(one, number, [*shared, 1], 0, pooling="mean" if number < 3 else "last")
    rows = 0
    while one.requests:
        chunks = one.scheduler.next_step(one.now_ns)
        assert not any(chunk.num_logit_rows for chunk in chunks)
        rows += sum(len(chunk.tokens) for chunk in chunks)
        for chunk in chunks:
            one._compute(chunk)
        one.scheduler.commit(chunks, {}, 1)
        for chunk in chunks:
            if chunk.ends:
                one._end_pooled(chunk)
    assert rows == 3 * 257
    assert one.scheduler.cache.tree.num_nodes == kept
    one.check()


def test_pooled_texts_stall_no_answer_beyond_the_bound() -> None:
    one = world()
    for number, prompt in enumerate(endless(4, 20)):
        ask(one, number, prompt, 60)
    while any(not one.answers[number] for number in range(4)):
        one.step()
    for number in range(9, 13):
        ask(one, number, [3] * 500, 0, pooling="mean")
    gaps = []
    while any(number in one.requests for number in range(9, 13)):
        before, counts = one.now_ns, {n: len(one.answers[n]) for n in one.requests if n < 4}
        one.step()
        assert all(len(one.answers[n]) == counts[n] + 1 for n in one.requests if n < 4)
        if counts:
            gaps.append(one.now_ns - before)
    assert len(gaps) >= 50
    assert max(gaps) <= 40_000
    one.drain()


def test_what_belongs_to_a_queued_request_is_not_refused() -> None:
    one = world(max_waiting=1, max_running=1)
    ask(one, 0, [1] * 10, 0, pooling="mean")
    with pytest.raises(OverloadError):
        ask(one, 1, [1] * 10, 0, pooling="mean")
    ask(one, 2, [1] * 10, 0, pooling="mean", joined=True)
    one.drain()
    assert one.num_pooled == 2


def test_a_preempted_mean_starts_anew() -> None:
    one = world(max_running=1)
    ask(one, 0, [1] * 300, 0, pooling="mean")
    one.step()
    ask(one, 1, [2] * 10, 1, priority=1)
    while 1 in one.requests:
        one.step()
    assert one.scheduler.pressure.counts["preempt"] == 1
    one.drain()  # compares what was pooled with the whole text
    assert one.num_pooled == 1


def test_nobody_waits_for_a_page_that_nobody_can_compute() -> None:
    """The youngest is first in turn and has no page; the oldest is at the same one."""
    one = world((PageGroup(16, 1000),), max_batch_tokens=64)
    prompt = endless(1, 150)[0]
    ask(one, 0, prompt, 10, tenant="a")
    ask(one, 1, [1] * 250, 1, tenant="b")
    ask(one, 2, prompt, 10, tenant="c")
    scheduler = one.scheduler
    one.step()
    for request_id in (0, 2):
        scheduler.set_stalled(request_id, stalled=True)
    for _ in range(3):
        one.step()
    scheduler.set_budget(4 * 1000)
    for request_id in (0, 2):
        scheduler.set_stalled(request_id, stalled=False)
    one.drain()
    assert scheduler.pressure.counts["refuse"] == 0


def test_a_tenant_that_comes_starts_at_the_level_of_the_others() -> None:
    """It has no claim to the rows that the others had before it came."""
    one = world(max_running=1)
    for number, prompt in enumerate(endless(4, 100)):
        ask(one, number, prompt, 1, tenant="old")
    while len(one.requests) > 1:
        one.step()
    prompts = endless(8, 60, salt=1)
    for number in range(4):
        ask(one, 10 + number, prompts[number], 1, tenant="old")
        ask(one, 20 + number, prompts[4 + number], 1, tenant="new")
    served: list[int] = []
    while one.requests:
        before = set(one.requests)
        one.step()
        served += sorted(before - set(one.requests))
    # By turns; a credit of 300 rows would let all four of the new one go first.
    assert served.index(10) < served.index(22)
    assert served.index(20) < served.index(11)


def unread_beside_two_that_are_read() -> World:
    """Return a world where the oldest of three running answers has a reader that does not read."""
    one = world((PageGroup(12, 1000),))
    for number, prompt in enumerate(endless(3, 130, num_tokens=150)):
        one.now_ns += 1
        ask(one, number, prompt, 150)
        while len(list(one.scheduler.decoding())) <= number:
            one.step()
    one.scheduler.set_stalled(0, stalled=True)
    return one


def test_unread_answers_are_preempted_before_all_others() -> None:
    one = unread_beside_two_that_are_read()
    while not any("preempted" in line for line in one.log):
        assert one.step()
    assert "Request 0 is preempted" in one.log[-1]
    assert [s.request.id for s in one.scheduler._running] == [1, 2]
    one.drain()


def test_a_budget_takes_pages_of_unread_answers_first() -> None:
    one = unread_beside_two_that_are_read()
    one.set_budget(8 / 12)
    assert "Request 0 is preempted" in one.log[-1]
    assert one.scheduler.num_running == 2
    one.drain()


def decoding(one: World, count: int, size: int = 20) -> None:
    """Let `count` requests come to where each step gives each of them a token."""
    for number, prompt in enumerate(endless(count, size)):
        ask(one, number, prompt, 60)
    while len(list(one.scheduler.decoding())) < count:
        one.step()


def propose(one: World, count: int) -> None:
    """Propose `count` wrong drafts for every request that decodes."""
    for sequence in one.scheduler.decoding():
        right = answer_alone(sequence.tokens, 1)[0]
        one.scheduler.drafts.propose(sequence, [(right + 1) % 4] * count)


def num_drafts(one: World) -> list[int]:
    """Return how many drafts each chunk of the next step has, and let it be run."""
    chunks = one.scheduler.next_step(one.now_ns)
    values = [one._compute(chunk) for chunk in chunks]
    sampled = {
        chunk.request_id: one._verify(chunk, of_chunk)
        for chunk, of_chunk in zip(chunks, values, strict=True)
        if chunk.num_logit_rows
    }
    one.scheduler.commit(chunks, sampled, 1)
    for request_id, tokens in sampled.items():
        one._draw(request_id, tokens)
    return [chunk.num_drafts for chunk in chunks]


def test_drafts_take_the_logit_rows_and_rows_that_are_left() -> None:
    one = world(max_logit_rows=8)
    decoding(one, 3)
    propose(one, 4)
    assert num_drafts(one) == [4, 1, 0]
    one = world(max_logit_rows=16, max_batch_tokens=16)
    decoding(one, 1)
    ask(one, 5, [3] * 100, 1, live=False)
    propose(one, 4)
    assert num_drafts(one) == [0, 0], "a prompt fills the step"
    one.drain()


@pytest.mark.parametrize(
    ("size", "max_tokens", "changes", "most"),
    [
        (10, 5, {}, 3),  # one token is known, four are left, and the last one has no draft
        (10, 3, {}, 1),
        (10, 2, {}, 0),
        (10, 50, {}, 7),  # eight rows have logits
        (10, 50, {"max_logit_rows": 64, "max_batch_tokens": 16}, 15),
        (10, 50, {"max_logit_rows": 64, "context_tokens": 20}, 8),
        (10, 9, {"max_logit_rows": 64, "context_tokens": 20}, 7),
    ],
)
def test_drafts_of_use_are_one_less_than_tokens_to_be_sampled(
    size: int, max_tokens: int, changes: dict[str, int], most: int
) -> None:
    one = world(**changes)
    ask(one, 0, endless(1, size)[0], max_tokens)
    one.step()
    (sequence,) = one.scheduler.decoding()
    assert one.scheduler.drafts.most(sequence) == most
    propose(one, 99)
    assert num_drafts(one) == [most]


def test_who_can_have_no_drafts_takes_none_from_others() -> None:
    one = world((PageGroup(8, 1000),))
    for number, size in enumerate((60, 20)):
        ask(one, number, endless(1, size)[0], 60)
    one.step()
    pool = one.scheduler.cache.pools[0]
    (full, _) = one.scheduler.decoding()
    while full.num_computed < 63:
        assert one.step()
    taken = [pool.take() for _ in range(pool.num_free)]
    # The next token of the first is the last of its page, and no other page is free.
    propose(one, 3)
    assert num_drafts(one) == [0, 3]
    for page in taken:
        pool.drop(page)
    one = world()
    decoding(one, 2)
    propose(one, 3)
    one.scheduler.set_stalled(0, stalled=True)
    assert num_drafts(one) == [3], "the first has no row in this step"


def test_drafts_hold_for_one_step() -> None:
    one = world()
    decoding(one, 1)
    propose(one, 3)
    assert num_drafts(one) == [3]
    assert num_drafts(one) == [0]
    propose(one, 3)
    propose(one, 2)
    assert num_drafts(one) == [2]


def test_drafts_keep_a_step_within_the_bound() -> None:
    one = world(max_logit_rows=64)
    decoding(one, 2)
    propose(one, 30)
    # A row takes 1 us and 70 % of 40 us are for the step.
    assert sum(num_drafts(one)) == 28 - 2
    one.drain()


def test_drafts_evict_and_preempt_nothing() -> None:
    one = world((PageGroup(4, 1000),))
    ask(one, 9, [3] * 70, 1)
    while one.requests:
        one.step()
    decoding(one, 1, size=60)
    pool = one.scheduler.cache.pools[0]
    assert (pool.num_used, pool.num_cached, pool.num_free) == (1, 1, 2)
    (sequence,) = one.scheduler.decoding()
    taken = [pool.take(), pool.take()]
    while sequence.num_computed < 61:
        one.step()
    # Three positions are left in its page, and the next one is only there for what is known.
    propose(one, 7)
    assert num_drafts(one) == [2]
    assert one.scheduler.cache.tree.num_evicted == 0
    for page in taken:
        pool.drop(page)
    one.drain()


def test_pages_of_rejected_drafts_are_free_again() -> None:
    one = world()
    decoding(one, 1, size=60)
    pool = one.scheduler.cache.pools[0]
    used = pool.num_used
    propose(one, 7)
    chunks = one.scheduler.next_step(one.now_ns)
    assert pool.num_used == used + 1
    sampled = {chunk.request_id: one._verify(chunk, one._compute(chunk)) for chunk in chunks}
    one.scheduler.commit(chunks, sampled, 1)
    assert pool.num_used == used


def test_tenants_are_not_charged_for_rejected_drafts() -> None:
    """Both have had as many tokens computed, so the one whose request came first is next."""
    one = world(max_running=2)
    first, second, *more = endless(4, 40)
    ask(one, 0, first, 60, tenant="drafts")
    ask(one, 1, second, 60, tenant="plain")
    while len(list(one.scheduler.decoding())) < 2:
        one.step()
    for _ in range(10):
        (sequence, _) = one.scheduler.decoding()
        assert sequence.request.id == 0
        one.scheduler.drafts.propose(sequence, [4] * 6)
        one.step()
    ask(one, 2, more[0], 1, tenant="drafts")
    ask(one, 3, more[1], 1, tenant="plain")
    for request_id in (0, 1):
        one.scheduler.cancel(request_id)
        one._drop(request_id)
    one.limits = replace(one.limits, max_running=1)
    one.scheduler.limits = one.limits
    one.step()
    assert [s.request.id for s in one.scheduler._running] == [2] or 2 not in one.requests
