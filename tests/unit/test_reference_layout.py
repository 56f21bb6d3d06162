"""A second layout through the planner: what is asked of it adds up to its plans."""

from dataclasses import replace
from math import prod

import pytest

from golden.regenerate import MACHINE, tiny_spec
from support.checkpoints import FAMILIES
from support.speeds import plain_speed
from tonnage.backends.cpu.layout.cpu_layout import CpuLayout
from tonnage.backends.reference.layout import ReferenceLayout
from tonnage.core.errors import PlanFileError, RequestError
from tonnage.core.kv_format import PAGE_TOKENS
from tonnage.core.layout import Layout
from tonnage.core.plan import Plan
from tonnage.core.quality import PlanQuality
from tonnage.core.workload import Workload
from tonnage.planner.plan_file import (
    FORMAT,
    PlanFile,
    checked_choice,
    first_difference,
    planned_machine,
    portable,
)
from tonnage.planner.quality.allocator import Allocator, menus
from tonnage.planner.search.budget import Budget
from tonnage.planner.search.choose import PlanChoice, Question, choose
from tonnage.planner.search.constraints import Constraints

WORKLOAD = Workload(context_tokens=200, threads=2, concurrency=2, max_rows=16)
LAYOUTS = pytest.mark.parametrize("layout", [CpuLayout(), ReferenceLayout()])


def item_bytes(plan: Plan, name: str) -> int:
    return next(item.planned_bytes for item in plan.items if item.name == name)


@LAYOUTS
@pytest.mark.parametrize("family", FAMILIES)
def test_answers_add_up_to_the_plan(family: str, layout: Layout) -> None:
    spec = tiny_spec(family)
    for shared in (None, 0, 3):
        workload = replace(WORKLOAD, shared_pages=shared)
        plan = layout.plan(spec, workload)
        held = sum(
            layout.matrix_bytes(entry.format.name, entry.shape)
            for entry in spec.weights.values()
            if len(entry.shape) > 1
        )
        whole = held + layout.other_weight_bytes(spec)
        unit = layout.weights_unit
        assert item_bytes(plan, "weights") == -(-whole // unit) * unit
        assert item_bytes(plan, "kv pages") == layout.page_bytes(spec, workload)
        assert {m.name for m in plan.matrices} | {v.name for v in plan.vectors} == set(spec.weights)
        assert Plan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_of_float64_and_nothing_else(family: str) -> None:
    spec = tiny_spec(family)
    plan = ReferenceLayout().plan(spec, WORKLOAD)
    angles = sum(len(rope.frequencies) for rope in plan.ropes)
    elements = sum(prod(entry.shape) for entry in spec.weights.values()) + angles
    assert item_bytes(plan, "weights") == 8 * elements
    layers = sum(kv.num_heads * (kv.k_dim + kv.v_dim) for kv in plan.kv.layers)
    if len(plan.kv.groups) == 1:
        pages = 2 * -(-WORKLOAD.context_tokens // PAGE_TOKENS)
        assert item_bytes(plan, "kv pages") == 8 * PAGE_TOKENS * layers * pages
    areas = [(one.offset, one.nbytes) for one in (*plan.matrices, *plan.vectors, *plan.buffers)]
    areas += [(rope.offset, 8 * len(rope.frequencies)) for rope in plan.ropes]
    areas += [(group.offset, group.nbytes) for group in plan.kv.groups if group.nbytes]
    end = 0
    for offset, nbytes in sorted(areas):
        assert offset == end
        end += nbytes
    assert end == plan.arena_bytes


def test_formats_take_as_much_so_none_is_chosen() -> None:
    spec, layout = tiny_spec("llama"), ReferenceLayout()
    assert all(len(menu) == 1 for menu in menus(spec, layout).values())
    weights = item_bytes(layout.plan(spec, WORKLOAD), "weights")
    assert Allocator(spec, layout).formats(weights) == ()
    assert Allocator(spec, layout).formats(weights - 1) is None
    with pytest.raises(RequestError, match="no matrix"):
        layout.plan(spec, replace(WORKLOAD, formats=(("final_norm", "Q8_0"),)))


def chosen(layout: Layout, num_bytes: int, **stated: int) -> PlanChoice:
    question = Question(
        replace(tiny_spec("llama"), context_length=4096),
        MACHINE, layout, Constraints(**stated), plain_speed(),
    )  # fmt: skip
    return choose(question, Budget(num_bytes, "were allowed"), compare=False)


def test_the_planner_chooses_by_it() -> None:
    usual = chosen(ReferenceLayout(), 1 << 40)
    assert (usual.plan.panel_rows, usual.plan.kv.format) == (1, "f16")
    assert usual.plan.context_tokens == 4096
    rows = 16  # of a step: what else there is to give up is context alone
    whole = chosen(ReferenceLayout(), 1 << 40, max_batch_tokens=rows)
    less = chosen(ReferenceLayout(), whole.plan.total_bytes - 1, max_batch_tokens=rows)
    assert less.accepted
    assert less.workload == replace(whole.workload, context_tokens=2048)
    page_bytes = item_bytes(whole.plan, "kv pages")
    assert item_bytes(less.plan, "kv pages") == page_bytes // 2
    assert not chosen(ReferenceLayout(), 1 << 20).accepted


def test_a_plan_of_another_layout_is_refused() -> None:
    choice = chosen(ReferenceLayout(), 1 << 40)
    spec = replace(tiny_spec("llama"), context_length=4096)
    file = PlanFile(
        FORMAT, "1", "tiny", "c", planned_machine(MACHINE), None, choice.workload,
        PlanQuality(0.0, "exact"), None, portable(choice.plan),
    )  # fmt: skip
    again = checked_choice(file, spec, MACHINE, ReferenceLayout())
    assert first_difference(again.plan, choice.plan) is None
    with pytest.raises(PlanFileError, match="panel_rows is 1 instead of 32"):
        checked_choice(file, spec, MACHINE, CpuLayout())
