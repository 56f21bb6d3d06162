"""A limit that changes while an engine serves."""

from tonnage.core.machine import Limits
from tonnage.serving.watch import CHECK_EVERY_NS, LimitWatch


def test_only_a_changed_limit_counts_and_only_now_and_then() -> None:
    now = Limits({"cgroup": 1000}, 900)
    told: list[int] = []
    reads = 0

    def read() -> Limits:
        nonlocal reads
        reads += 1
        return now

    watch = LimitWatch(read, told.append)
    watch(1)
    now = Limits({"cgroup": 1000}, 500)
    watch(1 + CHECK_EVERY_NS)
    assert told == []
    now = Limits({"cgroup": 600}, 550)
    watch(CHECK_EVERY_NS)
    assert (reads, told) == (3, [])
    watch(1 + 2 * CHECK_EVERY_NS)
    assert told == [550]
    watch(1 + 3 * CHECK_EVERY_NS)
    assert told == [550]
