"""Naming why a machine is slow: for any counters, and token by token."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tonnage.core.slowdown import SLOW, SLOW_ALONE, Counters, Window, cold_load, slowdowns_of
from tonnage.machine.counters import CounterFiles
from tonnage.machine.watch import Watch

SECOND = 1_000_000_000
ZERO = Counters(0, 0, 0, 0, 0, 0, 0)
QUIET = replace(ZERO, clock_ns=SECOND)
# One counter that moved, of one second with two threads on two CPUs, and what it means.
MOVED = {
    "quota": {"throttled_ns": SECOND // 2},
    "tenant": {"delay_ns": SECOND // 2},
    "page cache": {"major_faults": 500},
}

counters = st.builds(
    Counters,
    clock_ns=st.integers(1, 10 * SECOND),
    delay_ns=st.integers(0, 40 * SECOND),
    throttled_ns=st.integers(0, 40 * SECOND),
    num_throttled=st.integers(0, 400),
    stolen_ns=st.integers(0, 40 * SECOND),
    major_faults=st.integers(0, 10**6),
    read_bytes=st.integers(0, 10**12),
)
windows = st.builds(
    Window,
    before=st.just(ZERO),
    after=counters,
    slowness=st.floats(0.1, 100),
    threads=st.integers(1, 64),
    cpus=st.integers(1, 64),
    clock=st.none() | st.floats(0.01, 2),
)


def causes(window: Window) -> list[str]:
    return [slowdown.cause for slowdown in slowdowns_of(window)]


@given(windows)
def test_slow_windows_have_causes_and_others_have_none(window):
    found = slowdowns_of(window)
    named = [slowdown.cause for slowdown in found]
    if window.slowness < SLOW:
        assert not named
    if window.slowness >= SLOW_ALONE:
        assert named
    if "memory" in named:
        assert window.slowness >= SLOW_ALONE
    assert len(set(named)) == len(named)
    assert ("memory" in named) <= (named == ["memory"])
    assert all(slowdown.sentence and "%" not in slowdown.sentence[:1] for slowdown in found)


@given(windows)
def test_more_threads_than_cores_are_always_named_when_slow(window):
    slow = replace(window, slowness=max(window.slowness, SLOW), threads=window.cpus + 1)
    assert "threads" in causes(slow)


@given(windows, st.integers(0, 10**15))
def test_only_what_was_counted_between_matters(window, offset):
    def later(counted: Counters) -> Counters:
        return Counters(*(getattr(counted, name) + offset for name in Counters.__slots__))

    moved = replace(window, before=later(window.before), after=later(window.after))
    assert causes(moved) == causes(window)


@pytest.mark.parametrize("cause", MOVED)
def test_each_counter_names_its_cause_alone(cause):
    after = replace(QUIET, **MOVED[cause])
    assert causes(Window(ZERO, after, 2.0, 2, 2, clock=1.0)) == [cause]


def test_a_period_that_has_not_ended_is_a_quota_too():
    begun = replace(QUIET, num_throttled=1, delay_ns=SECOND)
    assert causes(Window(ZERO, begun, 2.0, 2, 2)) == ["quota"]


def test_what_is_left_is_clock_or_memory():
    assert causes(Window(ZERO, QUIET, 2.0, 2, 2, clock=0.5)) == ["frequency"]
    assert causes(Window(ZERO, QUIET, 2.0, 2, 2, clock=1.0)) == ["memory"]


def test_waiting_of_ones_own_is_no_tenant():
    waiting = replace(QUIET, delay_ns=SECOND, throttled_ns=SECOND)
    assert causes(Window(ZERO, waiting, 2.0, 2, 2, clock=0.5)) == ["quota"]


def test_a_load_from_disk_is_told_from_one_out_of_the_cache():
    assert cold_load(0, 100 << 20) is None
    slowdown = cold_load(90 << 20, 100 << 20)
    assert slowdown is not None
    assert (slowdown.cause, "90 MiB" in slowdown.sentence) == ("page cache", True)


class Slow:
    """A machine whose steps take `times` their forecast, and whose counters move with them.

    share: of the clock it was measured with; threads: on its two CPUs.
    """

    def __init__(
        self, times: float, *, share: float = 1.0, threads: int = 2, **per_step: int
    ) -> None:
        self.now = QUIET
        self._per_step = {"clock_ns": 1_000_000} | per_step
        self.watch = Watch(lambda _: 1e-3, lambda: self.now, lambda: share, threads=threads, cpus=2)
        self._times = times

    def named_after(self, num_tokens: int) -> dict[str, int]:
        """Return cause -> the number of the token at which it was named."""
        named = {}
        self.watch.begin()
        for token in range(1, num_tokens + 1):
            found = self.watch.step(token, 1e-3 * self._times)
            named.update({slowdown.cause: token for slowdown in found})
            changes = {name: getattr(self.now, name) + add for name, add in self._per_step.items()}
            self.now = replace(self.now, **changes)
        return named


@pytest.mark.parametrize(
    ("cause", "slow"),
    [
        ("quota", {"throttled_ns": 500_000}),
        ("threads", {"threads": 4}),
        ("tenant", {"delay_ns": 500_000}),
        ("tenant", {"stolen_ns": 500_000}),
        ("page cache", {"major_faults": 1}),
        # The clock of a machine that tests run on cannot be changed: this is a made-up one.
        ("frequency", {"share": 0.5}),
        ("memory", {}),
    ],
)
def test_each_cause_is_named_within_fifty_tokens_and_once(cause, slow):
    machine = Slow(2.0, **slow)
    assert set(machine.named_after(50)) == {cause}
    assert machine.named_after(500) == {}


@pytest.mark.parametrize("times", [0.5, 1.0, 1.26])
@pytest.mark.parametrize("moving", [{}, {"delay_ns": 500_000}, {"major_faults": 9}, {"share": 0.5}])
def test_a_healthy_answer_names_nothing(times, moving):
    assert Slow(times, **moving).named_after(500) == {}


def test_what_no_counter_shows_has_to_be_plain_and_to_last():
    assert Slow(0.99 * SLOW_ALONE).named_after(500) == {}
    watch = Slow(1.0).watch
    watch.begin()
    hiccup = [watch.step(token, 0.1 if token == 30 else 1e-3) for token in range(1, 97)]
    assert watch.slowness > SLOW_ALONE
    assert not any(hiccup)


def test_the_counters_of_this_process_only_grow():
    files = CounterFiles()
    first, second = files.read(), files.read()
    assert all(getattr(first, n) <= getattr(second, n) for n in Counters.__slots__)
    assert second.clock_ns > first.clock_ns
