"""What is said to make a refused plan fit: the least change of its kind, with its costs."""

import dataclasses
from collections.abc import Sequence

import pytest

from golden.regenerate import MACHINE
from golden.spec_files import load
from support.speeds import plain_speed
from tonnage.backends.cpu.layout.cpu_layout import CpuLayout
from tonnage.core.errors import BudgetError
from tonnage.core.plan import Plan
from tonnage.core.quality import QUALITY_BOUNDS
from tonnage.planner.search.budget import Budget
from tonnage.planner.search.candidate import Evaluator, Predict
from tonnage.planner.search.choose import PlanChoice, Question, choose, require_fit
from tonnage.planner.search.constraints import Constraints
from tonnage.planner.search.relaxations import Relaxation, relaxations, rounded_up, way_out

MIB = 1 << 20
SPEC = load("qwen2.5-coder-0.5b")
SPEED = plain_speed()
STATED = Constraints(
    context=16384, threads=2, concurrency=3, max_logit_rows=3, max_batch_tokens=512,
    kv_format="f16", max_kld=0.0,
)  # fmt: skip
# Option of the command line: the constraint, and by how much it grows.
FIELDS = {
    "--context": ("context", 64), "--concurrency": ("concurrency", 1),
    "--max-batch-tokens": ("max_batch_tokens", 1),
}  # fmt: skip


def chosen(constraints: Constraints, num_bytes: int, predict: Predict = SPEED) -> PlanChoice:
    question = Question(SPEC, MACHINE, CpuLayout(), constraints, predict)
    return choose(question, Budget(num_bytes, "were allowed"), compare=False)


NEEDED = chosen(dataclasses.replace(STATED, precision="8bit"), 1 << 40).plan.total_bytes


def request_s(plan: Plan) -> float:
    """Return the seconds of 512 tokens of prompt and 128 of completion."""
    speed = SPEED(plan)
    return 512 / speed.prefill_tokens_per_s + 128 / speed.decode_tokens_per_s


@pytest.mark.parametrize("short", [1, 40 * MIB, 130 * MIB])
def test_each_is_the_least_change_of_its_kind(short: int) -> None:
    stated = dataclasses.replace(STATED, precision="8bit")
    budget_bytes = NEEDED - short
    refused = chosen(stated, budget_bytes)
    assert not refused.accepted
    assert refused.relaxations
    for way in refused.relaxations:
        if way.option == "--kv":
            assert way.value == "int8"
            continue
        field, step = FIELDS[way.option]
        assert isinstance(way.value, int)
        assert way.option != "--context" or way.value % 64 == 0
        more = dataclasses.replace(stated, **{field: way.value + step})
        assert not chosen(more, budget_bytes).accepted, way


def test_its_figures_are_those_of_the_plan_that_it_gives() -> None:
    stated = dataclasses.replace(STATED, precision="8bit")
    budget_bytes = NEEDED - 40 * MIB
    refused = chosen(stated, budget_bytes)
    for way in refused.relaxations:
        field = "kv_format" if way.option == "--kv" else FIELDS[way.option][0]
        fitting = chosen(dataclasses.replace(stated, **{field: way.value}), budget_bytes)
        assert way.total_bytes == fitting.plan.total_bytes
        assert way.saved_bytes == NEEDED - fitting.plan.total_bytes
        slower = request_s(fitting.plan) / request_s(refused.plan) - 1
        assert way.slower == pytest.approx(slower, rel=1e-9, abs=1e-12)
        # int8 pages are estimated; nothing else here changes what is computed.
        expected = fitting.quality.mean_kld if way.option == "--kv" else 0.0
        assert way.added_kld == expected
    assert {"--kv", "--context"} <= {way.option for way in refused.relaxations}


# The least of each kind: a page, one sequence, and as many rows as prefill bears or are sampled.
LEAST = {
    "--context": ({}, 64),
    "--concurrency": ({}, 1),
    "--max-batch-tokens": ({"concurrency": 1, "max_logit_rows": 1}, 16),
    "--max-batch-tokens of 20 logits": ({"max_logit_rows": 20}, 20),
    "--max-batch-tokens of 24 sequences": ({"concurrency": 24, "context": 64}, 24),
    "--kv": ({}, "int8"),
}


@pytest.mark.parametrize("name", LEAST)
def test_the_least_of_a_kind_is_offered_to_the_last_byte(name: str) -> None:
    changes, least = LEAST[name]
    option = name.split()[0]
    field = "kv_format" if option == "--kv" else FIELDS[option][0]
    stated = dataclasses.replace(STATED, precision="8bit", **changes)
    total_bytes = chosen(dataclasses.replace(stated, **{field: least}), 1 << 40).plan.total_bytes
    for num_bytes, expected in ((total_bytes, [least]), (total_bytes - 1, [])):
        refused = chosen(stated, num_bytes)
        assert not refused.accepted
        ways = {way.option: way.value for way in every_way(refused, stated, num_bytes)}
        assert [value for key, value in ways.items() if key == option] == expected


def every_way(
    refused: PlanChoice, constraints: Constraints, num_bytes: int
) -> Sequence[Relaxation]:
    """Return the relaxations of `refused`, more than the three that are shown."""
    evaluator = Evaluator(SPEC, CpuLayout(), SPEED)
    candidate = evaluator.candidate(refused.workload)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tonnage.planner.search.relaxations.NUM_SHOWN", 9)
        return relaxations(evaluator, candidate, constraints, num_bytes)


@pytest.mark.parametrize(
    ("value", "rounded"),
    [(0.0, 0.0), (0.0123, 0.013), (0.013, 0.014), (1.0, 1.1), (0.0999, 0.1), (99.5, 100.0)],
)
def test_a_bound_is_written_with_two_digits_and_allows_what_it_is_for(
    value: float, rounded: float
) -> None:
    assert rounded_up(value) == rounded


def test_three_are_shown_those_that_free_the_fewest_bytes() -> None:
    stated = dataclasses.replace(STATED, precision="8bit")
    refused = chosen(stated, NEEDED - 1)
    assert len(refused.relaxations) == 3
    saved = [way.saved_bytes for way in refused.relaxations]
    assert saved == sorted(saved)
    # Of the four that there are, int8 pages free most: half of three full contexts.
    assert [way.option for way in refused.relaxations if way.option == "--kv"] == []


def test_a_bound_on_quality_is_offered_where_weights_are_open() -> None:
    """Made anew with it, the plan fits; and it costs what it says."""
    narrow = Constraints(
        context=64, threads=2, max_batch_tokens=16, kv_format="int8", max_kld=0.0
    )  # fmt: skip
    whole = chosen(narrow, 1 << 40)
    budget_bytes = whole.plan.total_bytes - 60 * MIB
    refused = chosen(narrow, budget_bytes)
    (way,) = refused.relaxations
    assert way.option == "--quality"
    fitting = chosen(dataclasses.replace(narrow, max_kld=way.value), budget_bytes)
    assert fitting.accepted
    assert way.total_bytes == fitting.plan.total_bytes <= budget_bytes
    assert way.added_kld == fitting.quality.mean_kld - refused.quality.mean_kld > 0
    assert fitting.quality.mean_kld <= way.value <= 1.11 * fitting.quality.mean_kld
    assert chosen(dataclasses.replace(narrow, precision="8bit"), budget_bytes).relaxations == ()


def test_without_a_forecast_nothing_is_said_of_speed() -> None:
    refused = chosen(STATED, NEEDED - MIB, lambda _: None)
    assert refused.relaxations
    assert {way.slower for way in refused.relaxations} == {None}


def test_where_no_single_change_helps_a_smaller_model_does() -> None:
    refused = chosen(dataclasses.replace(STATED, precision="8bit"), 20 * MIB)
    assert refused.relaxations == ()
    with pytest.raises(BudgetError, match=r"alone fits, choose a smaller model\.$"):
        require_fit(refused, Budget(20 * MIB, "were allowed"))


@pytest.mark.parametrize(
    ("costs", "words"),
    [
        ((0.0, None), "at no cost in quality"),
        ((0.0, 0.004), "at no cost in quality"),
        ((0.0, 0.126), "13% slower"),
        ((0.0123, -0.25), "0.012 nats more from the file, 25% faster"),
        ((0.0123, 0.005), "0.012 nats more from the file, 0% slower"),
    ],
)
def test_a_way_out_is_half_a_sentence(costs: tuple[float, float | None], words: str) -> None:
    way = Relaxation("--context", 64, 3 * MIB, MIB, *costs)
    assert way_out([way]) == f"what fits is --context 64 (3.0 MiB, {words})"
    assert way_out([way, way]).count(" or --context 64 (") == 1


def test_a_refusal_names_the_largest_item() -> None:
    bound = QUALITY_BOUNDS["lossless"]
    refused = chosen(dataclasses.replace(STATED, max_kld=bound, precision="8bit"), 100 * MIB)
    largest = max(refused.plan.items, key=lambda item: item.planned_bytes)
    with pytest.raises(BudgetError, match=f"{largest.name} being the largest item"):
        require_fit(refused, Budget(100 * MIB, "were allowed"))
