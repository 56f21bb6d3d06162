"""Plans of real models' headers that share one process: which are co-resident, and at what cost."""

import dataclasses

import pytest

from golden.spec_files import load
from support.speeds import plain_speed
from tonnage.backends.cpu.layout.cpu_layout import CpuLayout
from tonnage.core.errors import BudgetError
from tonnage.core.footprint import CONNECTION_BYTES, SERVER_BYTES
from tonnage.machine.host import read_machine
from tonnage.planner.models.fair_share import peak_bytes
from tonnage.planner.models.placement import (
    USEFUL_CONTEXT_TOKENS,
    ModelInput,
    ModelSetPlan,
    plan_model_set,
)
from tonnage.planner.search.budget import Budget
from tonnage.planner.search.choose import Question, choose
from tonnage.planner.search.constraints import Constraints
from tonnage.server.models.load_policy import LoadPolicy, Size

MIB = 1 << 20
MACHINE = dataclasses.replace(
    read_machine(), affinity=(0, 1), num_cores=2, cpu_quota=None, numa_nodes=()
)
CONSTRAINTS = Constraints(
    concurrency=4,
    max_logit_rows=4,
    share_pages=True,
    server_bytes=SERVER_BYTES + 128 * CONNECTION_BYTES,
)
SMOL, GEMMA, QWEN = "smollm2-135m", "gemma3-270m", "qwen2.5-coder-0.5b"


def planned(num_bytes: int, *names: str, pinned: str = "", **constraints: object) -> ModelSetPlan:
    inputs = {
        name: ModelInput(
            load(name), dataclasses.replace(CONSTRAINTS, **constraints), (), name in pinned.split()
        )
        for name in names
    }
    budget = Budget(num_bytes, "were allowed")
    return plan_model_set(inputs, MACHINE, CpuLayout(), budget, plain_speed())


def check(planned_set: ModelSetPlan, num_bytes: int, pinned: str = "") -> int:
    """Check that everything stays within the budget; return how many are side by side."""
    placed, capacity = planned_set.placements, num_bytes - planned_set.process_bytes
    beside = [one.need for name, one in placed.items() if one.co_resident and name not in pinned]
    kept = sum(placed[name].need.resident_bytes for name in pinned.split())
    assert kept + peak_bytes(beside) <= capacity  # pinned ones are loaded before
    sizes = {n: Size(p.need.resident_bytes, p.need.loading_bytes) for n, p in placed.items()}
    LoadPolicy(sizes, capacity, pinned=pinned.split())
    for one in placed.values():
        assert one.memory_bytes == one.choice.plan.total_bytes <= num_bytes
        assert one.choice.accepted
    return sum(one.co_resident for one in placed.values())


def contexts(planned_set: ModelSetPlan) -> dict[str, int]:
    return {
        name: one.choice.workload.context_tokens for name, one in planned_set.placements.items()
    }


@pytest.mark.parametrize("pinned", ["", GEMMA])
def test_more_memory_never_separates_models_and_co_residence_never_costs_quality(
    pinned: str,
) -> None:
    names, counts = (SMOL, GEMMA, QWEN), []
    for num_bytes in (480 * MIB, 640 * MIB, 1300 * MIB):
        try:
            planned_set = planned(num_bytes, *names, pinned=pinned)
        except BudgetError:
            assert not counts
            continue
        counts.append(check(planned_set, num_bytes, pinned))
        for name, one in planned_set.placements.items():
            chosen = one.choice.workload
            if one.co_resident and counts[-1] > 1 and name not in pinned:
                assert chosen.formats == ()
                assert chosen.context_tokens >= USEFUL_CONTEXT_TOKENS
    assert counts == sorted(counts)
    assert set(counts) >= {2, 3}


def test_all_are_side_by_side_from_the_bytes_on_that_are_said_to_be_needed() -> None:
    planned_set = planned(600 * MIB, SMOL, GEMMA, QWEN)
    assert check(planned_set, 600 * MIB) == 2
    needed = planned_set.all_resident_bytes
    assert check(planned(needed, SMOL, GEMMA, QWEN), needed) == 3
    assert check(planned(needed - 4 * MIB, SMOL, GEMMA, QWEN), needed) == 2
    assert planned(needed, SMOL, GEMMA, QWEN).all_resident_bytes == needed


def test_what_is_left_rises_for_all_alike() -> None:
    narrow = planned(500 * MIB, SMOL, GEMMA)
    check(narrow, 500 * MIB)
    wide = planned(2000 * MIB, SMOL, GEMMA)
    assert check(wide, 2000 * MIB) == 2
    assert contexts(wide) == {SMOL: 4096, GEMMA: 4096}
    for name, one in wide.placements.items():
        alone = planned(2000 * MIB, name).placements[name]
        assert one.choice.plan.kv == alone.choice.plan.kv
        assert one.choice.workload == alone.choice.workload
    for before, after in zip(narrow.placements.values(), wide.placements.values(), strict=True):
        assert before.choice.plan.kv.nbytes <= after.choice.plan.kv.nbytes


def test_a_stated_context_is_kept_by_all() -> None:
    for num_bytes in (420 * MIB, 520 * MIB):
        planned_set = planned(num_bytes, SMOL, GEMMA, context=1000)
        check(planned_set, num_bytes)
        assert set(contexts(planned_set).values()) == {1000}


def test_a_plan_is_made_again_by_its_own_numbers() -> None:
    """What an engine does that is told all of it but the pages, which fill its bytes."""
    for num_bytes in (450 * MIB, 600 * MIB):
        for name, one in planned(num_bytes, SMOL, GEMMA).placements.items():
            made = one.choice.workload
            constraints = dataclasses.replace(
                CONSTRAINTS,
                context=made.context_tokens,
                threads=made.threads,
                formats=made.formats,
                kv_format=made.kv_format,
                max_batch_tokens=made.max_rows,
            )
            budget = Budget(one.memory_bytes, "were allowed")
            again = choose(
                Question(load(name), MACHINE, CpuLayout(), constraints, plain_speed()),
                budget,
                compare=False,
            )
            assert again.plan.kv == one.choice.plan.kv
            assert again.plan.matrices == one.choice.plan.matrices
            assert again.plan.total_bytes == one.memory_bytes


def test_pinned_models_that_do_not_fit_as_they_are_are_cut_down_but_leave_room() -> None:
    pinned = f"{GEMMA} {SMOL}"
    with pytest.raises(BudgetError, match="pin fewer models or allow --memory") as refusal:
        planned(MIB, SMOL, GEMMA, QWEN, pinned=pinned)
    least = int(str(refusal.value).rpartition(" ")[2].removesuffix("MiB.")) * MIB
    with pytest.raises(BudgetError, match="short"):
        planned(least - MIB, SMOL, GEMMA, QWEN, pinned=pinned)
    for num_bytes in (least, least + 90 * MIB):
        planned_set = planned(num_bytes, SMOL, GEMMA, QWEN, pinned=pinned)
        # The third is the only one that comes and goes, so it stays, however it is cut down.
        assert check(planned_set, num_bytes, pinned) == 3
    assert (
        planned(least, SMOL, GEMMA, QWEN, pinned=pinned).placements[GEMMA].choice.workload.formats
    )


def test_a_single_model_has_the_plan_it_always_had() -> None:
    planned_set = planned(300 * MIB, SMOL)
    budget = Budget(300 * MIB, "were allowed")
    alone = choose(
        Question(load(SMOL), MACHINE, CpuLayout(), CONSTRAINTS, plain_speed()),
        budget,
        compare=False,
    )
    assert planned_set.placements[SMOL].choice == alone
    assert planned_set.placements[SMOL].memory_bytes == alone.plan.total_bytes
