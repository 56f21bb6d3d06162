"""Pages that answers share: a full context, and as much more as the budget holds."""

import dataclasses

import pytest

from golden.spec_files import NAMES, load
from support.speeds import plain_speed
from tonnage.backends.cpu.layout.cpu_layout import CpuLayout
from tonnage.backends.cpu.layout.plan import make_plan
from tonnage.core.footprint import CONNECTION_BYTES, SERVER_BYTES
from tonnage.core.plan import Plan
from tonnage.machine.host import read_machine
from tonnage.planner.search.budget import Budget
from tonnage.planner.search.choose import PlanChoice, Question, choose
from tonnage.planner.search.constraints import Constraints

MIB = 1 << 20
MACHINE = dataclasses.replace(
    read_machine(), affinity=(0, 1), num_cores=2, cpu_quota=None, numa_nodes=()
)
SERVER = SERVER_BYTES + 256 * CONNECTION_BYTES


def chosen(name: str, num_bytes: int, **constraints: object) -> PlanChoice:
    stated = Constraints(
        **{"concurrency": 4, "max_logit_rows": 4, "share_pages": True, **constraints}
    )
    budget = Budget(num_bytes, "were allowed")
    return choose(
        Question(load(name), MACHINE, CpuLayout(), stated, plain_speed()), budget, compare=False
    )


def context_pages(plan: Plan) -> int:
    return -(-plan.context_tokens // plan.kv.page_tokens)


def test_the_first_example_of_a_server_keeps_the_usual_context_and_the_file() -> None:
    choice = chosen("smollm2-135m", 300 * MIB, server_bytes=SERVER)
    assert (choice.workload.context_tokens, choice.workload.formats) == (4096, ())
    assert choice.plan.kv.groups[0].num_pages == 176
    wide = chosen("smollm2-135m", 300 * MIB, server_bytes=SERVER, kv_format="f16")
    assert (wide.workload.context_tokens, wide.plan.kv.groups[0].num_pages) == (4096, 91)
    apart = chosen("smollm2-135m", 300 * MIB, server_bytes=SERVER, share_pages=False)
    assert apart.workload.context_tokens < 4096


@pytest.mark.parametrize("name", NAMES)
def test_pages_fill_the_budget_between_one_context_and_one_for_each(name: str) -> None:
    most = chosen(name, 1 << 40).plan
    assert most.kv == chosen(name, 1 << 40, share_pages=False).plan.kv
    alone = chosen(name, 1 << 40, concurrency=1).plan
    grew = []
    for num_bytes in range(alone.total_bytes, most.total_bytes + 64 * MIB, 24 * MIB):
        choice = chosen(name, num_bytes)
        plan, spec = choice.plan, load(name)
        assert plan.total_bytes <= num_bytes
        pages = plan.kv.groups[0].num_pages
        assert context_pages(plan) <= pages <= 4 * context_pages(plan)
        if pages < 4 * context_pages(plan):
            shared = choice.workload.shared_pages
            assert shared == pages - context_pages(plan)
            more = dataclasses.replace(choice.workload, shared_pages=shared + 1)
            assert make_plan(spec, more).total_bytes > num_bytes
        for group in plan.kv.groups[1:]:
            assert group.num_pages <= pages
        grew.append((plan.context_tokens, pages))
    assert grew[-1] == (most.context_tokens, 4 * context_pages(most))
    assert len(set(grew)) > 2
