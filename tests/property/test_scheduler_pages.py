"""The scheduler against a plain model of the pages, under random operations."""

import random
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from support.page_world import World
from tonnage.kvcache.pages import PageGroup
from tonnage.scheduler.limits import SchedulerLimits

# Everything seen; a narrow and a wide window beside it; windows only (group 0 holds no layer).
GROUPS = {
    "full": (PageGroup(14, 1000),),
    "windows": (PageGroup(16, 1000), PageGroup(8, 300, 70), PageGroup(12, 100, 200)),
    "only windows": (PageGroup(16, 0), PageGroup(5, 500, 5)),
}
LIMITS = SchedulerLimits(
    max_running=4, max_batch_tokens=48, max_logit_rows=4, context_tokens=400, max_waiting=6,
    max_stall_ns=30_000, load_bytes=2500,
)  # fmt: skip


@pytest.mark.parametrize("name", GROUPS)
@pytest.mark.parametrize("with_store", [False, True])
@pytest.mark.parametrize("most_drafts", [0, 5])
def test_ten_thousand_operations_leave_no_page_behind(
    name: str, with_store: bool, most_drafts: int
) -> None:
    rng = random.Random(f"{name} {with_store}")
    cap = None if with_store else 15_000
    limits = replace(LIMITS, max_logit_rows=4 + 2 * most_drafts)
    world = World(
        GROUPS[name], limits, rng, with_store=with_store, max_cached_bytes=cap, thorough=False,
        most_drafts=most_drafts,
    )  # fmt: skip
    for number in range(10_000):
        world.operate()
        if number % 50 == 0:
            world.scheduler.cache.check()
    world.set_budget(1)
    world.drain()
    counts = world.scheduler.pressure.counts
    assert min(counts[level] for level in ("evict", "shrink", "preempt", "refuse")) > 0
    assert world.num_completed > 100
    assert world.num_pooled > 100
    assert world.num_cached_tokens > 1000
    assert world.contents.num_released > 0
    if world.store is not None:
        assert world.store.num_hits > 20
    if most_drafts:
        assert min(world.num_accepted[count] for count in range(most_drafts + 1)) > 20


@pytest.mark.parametrize("name", GROUPS)
@pytest.mark.parametrize("with_store", [False, True])
@pytest.mark.parametrize("most_drafts", [0, 5])
def test_states_are_those_of_all_tokens_before(
    name: str, with_store: bool, most_drafts: int
) -> None:
    rng = random.Random(f"{name} {with_store}")
    limits = replace(LIMITS, max_logit_rows=4 + 2 * most_drafts)
    world = World(
        GROUPS[name], limits, rng, with_store=with_store, thorough=False, most_drafts=most_drafts,
        num_snapshots=8,
    )  # fmt: skip
    for number in range(5000):
        world.operate()
        if number % 50 == 0:
            world.scheduler.cache.check()
    world.set_budget(1)
    world.drain()
    assert world.num_completed > 50
    assert world.num_pooled > 50
    assert world.num_cached_tokens > 1000
    assert world.scheduler.pressure.counts["preempt"] > 0
    if world.store is not None:
        assert world.store.num_state_hits > 5
    if most_drafts:
        assert min(world.num_accepted[count] for count in range(most_drafts + 1)) > 10


class Machine(RuleBasedStateMachine):
    """Every operation in any order; the world checks contents and books itself."""

    @initialize(
        name=st.sampled_from(sorted(GROUPS)), seed=st.integers(0, 1 << 32), store=st.booleans(),
        cap=st.none() | st.integers(0, 20_000), most_drafts=st.sampled_from((0, 1, 6)),
        max_logit_rows=st.integers(4, 20), num_snapshots=st.sampled_from((None, None, 0, 1, 5, 30)),
    )  # fmt: skip
    def begin(
        self, name: str, seed: int, store: bool, cap: int | None, most_drafts: int,
        max_logit_rows: int, num_snapshots: int | None,
    ) -> None:  # fmt: skip
        limits = replace(LIMITS, max_logit_rows=max_logit_rows)
        self.world = World(
            GROUPS[name], limits, random.Random(seed), with_store=store, max_cached_bytes=cap,
            most_drafts=most_drafts, num_snapshots=num_snapshots,
        )  # fmt: skip

    @rule()
    def submit(self) -> None:
        self.world.submit()

    @rule()
    def cancel(self) -> None:
        self.world.cancel()

    @rule()
    def stall(self) -> None:
        self.world.stall()

    @rule(share=st.floats(0, 1))
    def set_budget(self, share: float) -> None:
        self.world.set_budget(share)

    @rule(count=st.integers(1, 30))
    def steps(self, count: int) -> None:
        for _ in range(count):
            self.world.step()

    @invariant()
    def books_are_closed(self) -> None:
        if hasattr(self, "world"):
            self.world.check()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.set_budget(1)
            self.world.drain()


Machine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestMachine = Machine.TestCase
