"""Which request is next: by priority, by tenant in fair shares, by deadline, by arrival."""

from collections.abc import Iterable

from tonnage.scheduler.sequence import Sequence

NEVER_NS = 1 << 62


class FairOrder:
    """Virtual time per tenant: the tokens computed for it. The tenant that had fewest is next.

    After "Fairness in Serving Large Language Models" (Sheng et al., 2024): a tenant that comes, or
    comes back, starts with the least of those that are there, so idling earns no credit.
    """

    def __init__(self) -> None:
        """Begin with no tenants."""
        self._rows: dict[str, int] = {}

    def enter(self, tenant: str, others: Iterable[str]) -> None:
        """Let a request of `tenant` begin; others: the tenants that have some already."""
        rows = {other: self._rows.get(other, 0) for other in others}
        self._rows = {tenant: min(rows.values(), default=0), **rows}

    def charge(self, tenant: str, num_rows: int) -> None:
        """Count rows that were computed for a tenant."""
        self._rows[tenant] = self._rows.get(tenant, 0) + num_rows

    def key(self, sequence: Sequence) -> tuple[int, int, int, int, int]:
        """Return what sequences that wait for pages or rows are sorted by."""
        request = sequence.request
        deadline = NEVER_NS if request.deadline_ns is None else request.deadline_ns
        served = self._rows.get(request.tenant, 0)
        return (-request.priority, served, deadline, request.arrival_ns, request.id)


def seniority(sequence: Sequence) -> tuple[int, int, int]:
    """Return what running sequences are preempted by, the last first."""
    request = sequence.request
    return (-request.priority, request.arrival_ns, request.id)
