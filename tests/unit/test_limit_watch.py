"""Limits that change while an engine serves, and neighbours that take more or leave."""

from collections.abc import Callable

import pytest

from tonnage.engine.limit_watch import (
    GROW_AFTER_NS,
    LOOK_EVERY_NS,
    LOOK_SOON_NS,
    Bounds,
    LimitWatch,
)

MIB = 1 << 20
FULL = 32 * MIB
MARGIN = 2 * MIB


class World:
    """Bounds that a test sets, and what the watch makes of them, called every 50 ms."""

    def __init__(self, limit_bytes: int = 100 * MIB) -> None:
        self.bounds = Bounds({"cgroup": limit_bytes}, 40 * MIB, 50 * MIB)
        self.told: list[int] = []
        self.read_ns: list[int] = []
        self.now_ns = 0
        self.watch = LimitWatch(FULL, self._read, self.told.append)
        self.read_ns.clear()

    def _read(self) -> Bounds:
        self.read_ns.append(self.now_ns)
        return self.bounds

    def leaves(self, planned_mib: float, real_mib: float, limit_mib: float = 100) -> None:
        limits = {"cgroup": int(limit_mib * MIB)}
        self.bounds = Bounds(limits, int(planned_mib * MIB), int(real_mib * MIB))

    def run(self, seconds: float, each: Callable[[], None] = lambda: None) -> None:
        for _ in range(round(seconds * 20)):
            self.now_ns += 50_000_000
            each()
            self.watch(self.now_ns)


@pytest.fixture
def world() -> World:
    return World()


def test_where_there_is_room_it_looks_every_two_seconds_and_does_nothing(world: World) -> None:
    world.run(10)
    assert world.told == []
    steps = {late - early for early, late in zip(world.read_ns, world.read_ns[1:], strict=False)}
    assert steps == {LOOK_EVERY_NS}


def test_a_changed_limit_is_followed_to_what_the_plan_leaves_down_and_up(world: World) -> None:
    world.run(3)
    world.leaves(10, 25, limit_mib=70)
    world.run(2)
    assert world.told == [10 * MIB]
    world.leaves(-5, 9, limit_mib=55)
    world.run(2)
    assert world.told == [10 * MIB, 0]
    world.leaves(90, 100, limit_mib=150)
    world.run(2)
    assert world.told == [10 * MIB, 0, FULL]


def test_a_limit_that_goes_down_in_steps_is_looked_at_ten_times_a_second(world: World) -> None:
    world.leaves(20, 30, limit_mib=80)
    world.run(2)
    world.leaves(10, 20, limit_mib=70)
    begin_ns = world.now_ns
    world.run(2)
    world.run(2)
    first, second = [one for one in world.read_ns if one > begin_ns][:2]
    assert world.told == [20 * MIB, 10 * MIB]
    assert second - first == LOOK_SOON_NS


def test_of_two_readings_of_a_changed_limit_the_better_one_counts(world: World) -> None:
    world.run(3)
    world.leaves(3, 8, limit_mib=70)
    world.run(1.05)
    assert world.told == []
    world.leaves(10, 20, limit_mib=70)
    world.run(2)
    assert world.told == [10 * MIB]


def test_a_limit_that_changes_at_every_look_is_followed_as_far_as_must_be(world: World) -> None:
    world.leaves(18, 20, limit_mib=70)
    world.run(2)
    limit = 60.0

    def falls() -> None:
        nonlocal limit
        limit -= 0.1
        world.leaves(-5, limit - 50, limit_mib=limit)

    world.told.clear()
    world.run(2, falls)
    assert world.told
    assert 0 < world.told[-1] < 10 * MIB


def test_the_plan_alone_takes_nothing_back(world: World) -> None:
    """A plan that was accepted at the size of its group leaves less than all: pages fit so far."""
    world.leaves(20, 33)
    world.run(60)
    assert world.told == []


def test_neighbours_that_grow_take_pages_and_half_a_margin(world: World) -> None:
    world.leaves(10, 28)
    world.run(4)
    assert world.told == [28 * MIB - MARGIN // 2]
    world.leaves(-20, -3)
    world.run(4)
    assert world.told == [28 * MIB - MARGIN // 2, 0]


def test_one_low_reading_is_noise(world: World) -> None:
    def seldom() -> None:
        low = len(world.read_ns) % 3 == 0
        world.leaves(40, 5 if low else 50)

    world.run(20, seldom)
    assert world.told == []


def test_near_its_bound_it_looks_ten_times_a_second(world: World) -> None:
    world.leaves(20, 33)
    world.run(4)
    world.read_ns.clear()
    world.run(2)
    assert len(world.read_ns) == 20


def test_what_neighbours_leave_comes_back_after_ten_seconds(world: World) -> None:
    world.leaves(10, 20)
    world.run(4)
    assert world.told == [19 * MIB]
    world.leaves(20.9, 30)
    world.run(60)
    assert world.told == [19 * MIB], "less than the margin above"
    world.leaves(25, 35)
    begin_ns = world.now_ns
    world.run(GROW_AFTER_NS / 1e9 - 0.1)
    assert world.told == [19 * MIB]
    world.run(5)
    assert world.told == [19 * MIB, 25 * MIB]
    world.leaves(34, 40)
    assert world.now_ns - begin_ns < 2 * GROW_AFTER_NS
    world.run(20)
    assert world.told[-1] == FULL


def test_room_that_goes_again_within_ten_seconds_is_not_taken(world: World) -> None:
    world.leaves(10, 20)
    world.run(4)
    for _ in range(5):
        world.leaves(30, 40)
        world.run(6)
        world.leaves(10, 20)
        world.run(3)
    assert world.told == [19 * MIB]


def test_the_least_room_of_these_seconds_is_taken(world: World) -> None:
    world.leaves(10, 20)
    world.run(4)
    world.leaves(30, 40)
    world.run(5)
    world.leaves(24, 40)
    world.run(3)
    world.leaves(30, 40)
    world.run(7)
    assert world.told == [19 * MIB, 24 * MIB]
