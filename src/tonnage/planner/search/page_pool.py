"""Pages that several sequences share: a whole context for one of them, and what is left for all."""

from bisect import bisect_right
from dataclasses import replace

from tonnage.backends.cpu.layout.place import HUGE_PAGE_BYTES, Cursor, KvNeed, place_kv
from tonnage.backends.cpu.layout.plan import kv_need
from tonnage.core.model_spec import ModelSpec
from tonnage.planner.search.candidate import Candidate, Evaluator


def widened(evaluator: Evaluator, candidate: Candidate, budget_bytes: int) -> Candidate:
    """Return `candidate`, whose pages are shared, with as many more as fit the budget.

    At most as many as a full context of every sequence takes.
    """
    need = kv_need(candidate.workload)
    most = (need.concurrency - 1) * need.sequence_pages(0)
    allowed = _bytes(evaluator.spec, need) + budget_bytes - candidate.total_bytes
    # Other items do not depend on the number of pages, and all of them begin on a huge page.
    pages = bisect_right(
        range(most + 1),
        allowed,
        key=lambda count: _bytes(evaluator.spec, replace(need, shared_pages=count)),
    )
    return evaluator.candidate(candidate.workload, shared_pages=pages - 1)


def _bytes(spec: ModelSpec, need: KvNeed) -> int:
    """Return the bytes of the item `kv pages`."""
    cursor = Cursor()
    place_kv(spec, need, cursor)
    return cursor.take(0, HUGE_PAGE_BYTES)
