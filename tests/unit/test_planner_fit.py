"""What the planner fills in, and what it refuses."""

import dataclasses

import pytest

from support.checkpoints import tiny_config, tiny_model, write_gguf
from support.containers import read_gguf
from tonnage._native import Executor
from tonnage.backends.cpu.layout.cpu_layout import CpuLayout
from tonnage.backends.cpu.layout.plan import make_plan
from tonnage.backends.cpu.layout.sizes import WORKER_SCRATCH_BYTES
from tonnage.core.errors import BudgetError, RequestError
from tonnage.core.footprint import INTERPRETER_BYTES, LATE_LIBRARY_BYTES
from tonnage.core.model_spec import ModelSpec
from tonnage.machine.host import read_machine
from tonnage.models.registry import spec_from_gguf
from tonnage.planner.search.budget import Budget
from tonnage.planner.search.choose import Choice, Question, choose, require_fit
from tonnage.planner.search.constraints import Constraints, choose_workload
from tonnage.planner.search.relaxations import binding_item

MACHINE = dataclasses.replace(read_machine(), affinity=(0, 1, 2), num_cores=3, cpu_quota=1.5)


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    path = tmp_path_factory.mktemp("fit") / "tiny.gguf"
    write_gguf(path, tiny_model(tiny_config("llama"), seed=1))
    return spec_from_gguf(*read_gguf(path))


def test_open_choices_follow_model_and_machine(spec: ModelSpec) -> None:
    workload = choose_workload(spec, MACHINE, Constraints())
    assert workload.context_tokens == min(4096, spec.context_length)
    assert workload.threads == 2
    assert choose_workload(spec, MACHINE, Constraints(context=2, threads=7)).threads == 7


@pytest.mark.parametrize(
    "constraints",
    [Constraints(context=1), Constraints(context=10**9), Constraints(threads=0),
     Constraints(threads=257), Constraints(precision="5bit"), Constraints(kv_format="int4"),
     Constraints(concurrency=0), Constraints(max_batch_tokens=0),
     Constraints(max_batch_tokens=513)],
    ids=str,
)  # fmt: skip
def test_wishes_out_of_range_are_refused(spec: ModelSpec, constraints: Constraints) -> None:
    with pytest.raises(RequestError, match=r"\d"):
        choose_workload(spec, MACHINE, constraints)


def test_a_budget_is_met_to_the_byte(spec: ModelSpec) -> None:
    constraints = Constraints(context=64, max_batch_tokens=16, precision="8bit", kv_format="f16")

    def choice(num_bytes: int) -> Choice:
        budget = Budget(num_bytes, "were allowed")
        return choose(Question(spec, MACHINE, CpuLayout(), constraints, lambda plan: None), budget)

    needed = choice(10**9).plan.total_bytes
    assert choice(needed).accepted
    refused = choice(needed - 1)
    assert not refused.accepted
    with pytest.raises(BudgetError, match="1 B short") as caught:
        require_fit(refused, Budget(needed - 1, "were allowed"))
    assert all(item.name in str(caught.value) for item in refused.plan.items)
    assert f"{binding_item(refused.plan).name} being the largest" in str(caught.value)


def test_a_process_that_holds_more_pays_for_it(spec: ModelSpec) -> None:
    def total(resident_bytes: int) -> int:
        return make_plan(
            spec, choose_workload(spec, MACHINE, Constraints(), resident_bytes)
        ).total_bytes

    assert total(0) == total(INTERPRETER_BYTES - LATE_LIBRARY_BYTES)
    assert total(INTERPRETER_BYTES) == total(0) + LATE_LIBRARY_BYTES


def test_thread_scratch_is_planned_as_it_is_taken() -> None:
    taken = [Executor("scalar", threads).scratch_bytes for threads in (1, 3)]
    assert taken[1] - taken[0] == 2 * WORKER_SCRATCH_BYTES
