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
from tonnage.planner.search.choose import PlanChoice, Question, choose, require_fit
from tonnage.planner.search.constraints import Constraints, choose_workload

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


@pytest.mark.parametrize(
    ("inside", "outside"),
    [
        ({"context": 2}, {"context": 1}),
        ({"threads": 1}, {"threads": 0}),
        ({"threads": 256}, {"threads": 257}),
        ({"concurrency": 1}, {"concurrency": 0}),
        ({"concurrency": 1024}, {"concurrency": 1025}),
        ({"max_batch_tokens": 1}, {"max_batch_tokens": 0}),
        ({"max_batch_tokens": 512}, {"max_batch_tokens": 513}),
        (
            {"max_logit_rows": 8, "max_batch_tokens": 8},
            {"max_logit_rows": 8, "max_batch_tokens": 7},
        ),
    ],
    ids=str,
)
def test_the_ends_of_a_range_belong_to_it(spec: ModelSpec, inside, outside) -> None:
    made = choose_workload(spec, MACHINE, Constraints(**inside))
    names = {"context": "context_tokens", "max_batch_tokens": "max_rows"}
    assert {key: getattr(made, names.get(key, key)) for key in inside} == inside
    with pytest.raises(RequestError, match=r"asked for; (this model|it) takes \d+ to \d+"):
        choose_workload(spec, MACHINE, Constraints(**outside))


def test_a_context_ends_where_the_model_does(spec: ModelSpec) -> None:
    end = spec.context_length
    made = choose_workload(spec, MACHINE, Constraints(context=end))
    assert made.context_tokens == end
    with pytest.raises(RequestError, match=rf"takes 2 to {end:,}\."):
        choose_workload(spec, MACHINE, Constraints(context=end + 1))


def test_what_is_stated_of_the_process_and_of_formats_is_part_of_the_workload(spec) -> None:
    first, second, *_ = sorted(name for name in spec.weights if name.endswith("down"))
    stated = Constraints(
        precision="8bit", formats=((second, "Q4_1"),), kv_format="int8", max_logit_rows=3,
        server_bytes=7, with_structured_output=True, with_store=True, share_pages=True,
    )  # fmt: skip
    made = choose_workload(spec, MACHINE, stated, 11)
    formats = dict(made.formats)
    assert (formats[first], formats[second]) == ("Q8_0", "Q4_1"), "the matrix by name comes first"
    assert list(formats) == sorted(formats)
    assert (made.kv_format, made.max_logit_rows, made.max_rows) == ("int8", 3, 512)
    assert (made.server_bytes, made.resident_bytes, made.shared_pages) == (7, 11, 0)
    assert made.with_structured_output
    assert made.with_store
    plain = choose_workload(spec, MACHINE, Constraints())
    assert (plain.kv_format, plain.concurrency, plain.formats) == ("f16", 1, ())
    assert (plain.server_bytes, plain.resident_bytes, plain.shared_pages) == (0, 0, None)
    assert not plain.with_structured_output
    assert not plain.with_store


@pytest.mark.parametrize(
    ("constraints", "is_open"),
    [({}, True), ({"precision": "8bit"}, False), ({"formats": (("embed", "Q8_0"),)}, False)],
    ids=str,
)
def test_weights_are_open_until_a_precision_or_a_format_is_stated(constraints, is_open) -> None:
    assert Constraints(**constraints).weights_open == is_open


def test_a_budget_is_met_to_the_byte(spec: ModelSpec) -> None:
    constraints = Constraints(context=64, max_batch_tokens=16, precision="8bit", kv_format="f16")

    def choice(num_bytes: int) -> PlanChoice:
        budget = Budget(num_bytes, "were allowed")
        return choose(Question(spec, MACHINE, CpuLayout(), constraints, lambda plan: None), budget)

    needed = choice(10**9).plan.total_bytes
    assert choice(needed).accepted
    refused = choice(needed - 1)
    assert not refused.accepted
    with pytest.raises(BudgetError, match="1 B short") as caught:
        require_fit(refused, Budget(needed - 1, "were allowed"))
    assert all(item.name in str(caught.value) for item in refused.plan.items)
    largest = max(refused.plan.items, key=lambda item: item.planned_bytes)
    assert f"{largest.name} being the largest" in str(caught.value)


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
