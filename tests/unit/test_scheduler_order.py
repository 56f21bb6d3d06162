"""Whose request is next, and which running one gives way, by every key that the policy names."""

from array import array
from itertools import permutations

import pytest

from tonnage.scheduler.order import FairOrder, seniority
from tonnage.scheduler.sequence import Request, Sequence


def waiting(request_id: int, arrival_ns: int = 0, **terms: object) -> Sequence:
    """Return a sequence of a request of one token."""
    request = Request(request_id, [1], 1, arrival_ns, **terms)  # type: ignore[arg-type]
    return Sequence(request, array("i", [1]))


# Each list from the first to the last; all but what tells them apart speaks against that order.
NEXT = {
    "higher priority first": [waiting(2, 9, priority=1), waiting(1, 0, deadline_ns=1)],
    "then the earlier deadline": [
        waiting(3, 9, deadline_ns=5), waiting(2, 8, deadline_ns=6), waiting(1, 0),
    ],
    "then the earlier arrival": [waiting(2, 4), waiting(1, 5)],
    "then the lower number": [waiting(1, 4), waiting(2, 4)],
}  # fmt: skip


@pytest.mark.parametrize("case", NEXT)
def test_who_is_next(case: str) -> None:
    order = FairOrder()
    for some in permutations(NEXT[case]):
        assert sorted(some, key=order.key) == NEXT[case]


def test_the_tenant_that_had_fewest_rows_is_next_but_for_priority() -> None:
    order = FairOrder()
    order.charge("a", 10)
    order.charge("b", 4)
    order.charge("b", 7)
    few = waiting(2, 9, tenant="a")
    many = waiting(1, 0, tenant="b", deadline_ns=1)
    urgent = waiting(3, 9, tenant="b", priority=1)
    none = waiting(4, 9, tenant="c")
    assert sorted([many, few, urgent, none], key=order.key) == [urgent, none, few, many]


def test_a_tenant_that_comes_has_as_much_as_the_least_of_the_others() -> None:
    order = FairOrder()
    order.charge("a", 10)
    order.charge("b", 30)
    order.enter("c", ["b", "a"])
    order.charge("c", 1)
    assert order.key(waiting(1, tenant="c"))[1] == 11
    # Idling earns nothing: of whoever left, nothing is known when it comes back.
    order.enter("a", ["b"])
    assert order.key(waiting(1, tenant="a"))[1] == 30
    assert order.key(waiting(1, tenant="c"))[1] == 0
    for newcomer, others in (("d", []), ("e", ["x"])):
        order.enter(newcomer, others)
        order.charge(newcomer, 1)
        assert order.key(waiting(1, tenant=newcomer))[1] == 1


def test_the_last_to_be_preempted_is_of_high_priority_and_old() -> None:
    oldest_last = [
        waiting(9, 9, priority=-1), waiting(8, 8), waiting(7, 8), waiting(6, 1),
        waiting(10, 10, priority=2),
    ]  # fmt: skip
    for some in permutations(oldest_last):
        assert sorted(some, key=seniority, reverse=True) == oldest_last
