"""What the planner fills in, and what it refuses."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.checkpoints import tiny_config, tiny_model, write_gguf
from support.containers import read_gguf
from tonnage._native import Executor
from tonnage.core.errors import BudgetError, RequestError
from tonnage.core.footprint import INTERPRETER_BYTES, LATE_LIBRARY_BYTES
from tonnage.core.layout import PAGE_TOKENS, WORKER_SCRATCH_BYTES
from tonnage.core.model_spec import ModelSpec
from tonnage.machine.host import read_machine
from tonnage.models.registry import spec_from_gguf
from tonnage.planner.fit import (
    Budget,
    Wishes,
    binding_item,
    choose_workload,
    concessions,
    require_fit,
)
from tonnage.planner.plan import make_plan

FIELDS = {"--context": "context", "--concurrency": "concurrency", "--step-rows": "step_rows"}
MACHINE = dataclasses.replace(read_machine(), affinity=(0, 1, 2), num_cores=3, cpu_quota=1.5)


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    path = tmp_path_factory.mktemp("fit") / "tiny.gguf"
    write_gguf(path, tiny_model(tiny_config("llama"), seed=1))
    return spec_from_gguf(*read_gguf(path))


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    """A model whose pages and scratch outweigh the interpreter."""
    config = tiny_config(
        "llama", hidden_size=512, num_hidden_layers=2, max_position_embeddings=4096
    )
    path = tmp_path_factory.mktemp("fit") / "big.gguf"
    write_gguf(path, tiny_model(config, seed=1))
    return spec_from_gguf(*read_gguf(path))


def test_open_choices_follow_model_and_machine(spec: ModelSpec) -> None:
    workload = choose_workload(spec, MACHINE, Wishes())
    assert workload.context_tokens == min(4096, spec.context_length)
    assert workload.threads == 2
    assert choose_workload(spec, MACHINE, Wishes(context=2, threads=7)).threads == 7


@pytest.mark.parametrize(
    "wishes",
    [Wishes(context=1), Wishes(context=10**9), Wishes(threads=0), Wishes(threads=257),
     Wishes(precision="5bit"), Wishes(kv_format="int4"),
     Wishes(concurrency=0), Wishes(step_rows=0), Wishes(step_rows=513)],
    ids=str,
)  # fmt: skip
def test_wishes_out_of_range_are_refused(spec: ModelSpec, wishes: Wishes) -> None:
    with pytest.raises(RequestError, match=r"\d"):
        choose_workload(spec, MACHINE, wishes)


def test_a_budget_is_met_to_the_byte(spec: ModelSpec) -> None:
    workload = choose_workload(spec, MACHINE, Wishes())
    plan = make_plan(spec, workload)
    require_fit(spec, workload, plan, Budget(plan.total_bytes, "were allowed"))
    with pytest.raises(BudgetError, match="1 B short") as caught:
        require_fit(spec, workload, plan, Budget(plan.total_bytes - 1, "were allowed"))
    assert all(item.name in str(caught.value) for item in plan.items)
    assert f"{binding_item(plan).name} being the largest" in str(caught.value)


def test_a_process_that_holds_more_pays_for_it(spec: ModelSpec) -> None:
    def total(resident_bytes: int) -> int:
        return make_plan(spec, choose_workload(spec, MACHINE, Wishes(), resident_bytes)).total_bytes

    assert total(0) == total(INTERPRETER_BYTES - LATE_LIBRARY_BYTES)
    assert total(INTERPRETER_BYTES) == total(0) + LATE_LIBRARY_BYTES


@settings(deadline=None, max_examples=60)
@given(
    context=st.integers(2, 4096), concurrency=st.integers(1, 9), rows=st.integers(1, 512),
    share=st.floats(0.2, 1.1),
)  # fmt: skip
def test_concessions_fit_when_planned_anew(
    big: ModelSpec, context: int, concurrency: int, rows: int, share: float
) -> None:
    wishes = Wishes(context, 2, None, concurrency, step_rows=rows)
    workload = choose_workload(big, MACHINE, wishes)
    needed = make_plan(big, workload).total_bytes
    budget_bytes = int(needed * share)
    offered = concessions(big, workload, budget_bytes)
    assert [c.saved_bytes for c in offered] == sorted(c.saved_bytes for c in offered)
    assert len({c.option for c in offered}) == len(offered) <= 3
    for one in offered:
        changed = dataclasses.replace(wishes, **{FIELDS[one.option]: one.value})
        again = make_plan(big, choose_workload(big, MACHINE, changed))
        assert again.total_bytes == one.total_bytes == needed - one.saved_bytes
        assert again.total_bytes <= budget_bytes
    largest = next((c for c in offered if c.option == "--context"), None)
    if largest is not None and largest.value + PAGE_TOKENS < context:
        wider = dataclasses.replace(wishes, context=largest.value + PAGE_TOKENS)
        wider_plan = make_plan(big, choose_workload(big, MACHINE, wider))
        assert wider_plan.total_bytes > budget_bytes


def test_thread_scratch_is_planned_as_it_is_taken() -> None:
    taken = [Executor("scalar", threads).scratch_bytes for threads in (1, 3)]
    assert taken[1] - taken[0] == 2 * WORKER_SCRATCH_BYTES
