"""Pages that several sequences share: a whole context for one of them, and what is left for all."""

from bisect import bisect_right
from dataclasses import replace

from tonnage.planner.search.candidate import Candidate, Evaluator


def widened(evaluator: Evaluator, candidate: Candidate, budget_bytes: int) -> Candidate:
    """Return `candidate`, whose pages are shared, with as many more as fit the budget.

    At most as many as a full context of every sequence takes.
    """
    spec, layout, workload = evaluator.spec, evaluator.layout, candidate.workload
    most = (workload.concurrency - 1) * workload.sequence_pages(0)
    # Other items do not depend on the number of pages.
    allowed = layout.page_bytes(spec, workload) + budget_bytes - candidate.total_bytes
    pages = bisect_right(
        range(most + 1),
        allowed,
        key=lambda count: layout.page_bytes(spec, replace(workload, shared_pages=count)),
    )
    return evaluator.candidate(workload, shared_pages=pages - 1)
