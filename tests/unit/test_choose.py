"""The choice under bytes and quality: what is fixed, the Pareto front, the order, refusals."""

import dataclasses
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golden.regenerate import tiny_spec
from golden.spec_files import NAMES, load
from support.speeds import PlainSpeed, plain_speed
from support.yardstick import cpu_seconds
from tonnage.backends.cpu.layout.cpu_layout import CpuLayout
from tonnage.cli.render.choice_words import given_up
from tonnage.core.errors import BudgetError, RequestError
from tonnage.core.model_spec import ModelSpec
from tonnage.core.plan import Plan
from tonnage.core.quality import AuditResult, Comparison, Estimate, quality_bound
from tonnage.machine.host import read_machine
from tonnage.planner.search.budget import Budget
from tonnage.planner.search.candidate import Candidate, Evaluator, pareto_front
from tonnage.planner.search.choose import (
    MAX_PAGES_KLD,
    PlanChoice,
    Question,
    choose,
    require_fit,
    thread_counts,
)
from tonnage.planner.search.constraints import Constraints
from tonnage.planner.search.relaxations import rounded_up

MIB = 1 << 20
MACHINE = dataclasses.replace(
    read_machine(), affinity=(0, 1, 2, 3), num_cores=4, cpu_quota=None, numa_nodes=()
)
SPECS = {name: load(name) for name in NAMES}
SMALL, LARGE = SPECS["smollm2-135m"], SPECS["qwen2.5-coder-1.5b"]
FIELDS = {
    "--context": "context", "--concurrency": "concurrency",
    "--max-batch-tokens": "max_batch_tokens", "--kv": "kv_format", "--quality": "max_kld",
}  # fmt: skip


def unmeasured(_: Plan) -> None:
    return None


MEASURED = plain_speed()


def chosen(spec: ModelSpec, num_bytes: int, predict=MEASURED, **constraints) -> PlanChoice:
    return choose(
        Question(spec, MACHINE, CpuLayout(), Constraints(**constraints), predict),
        Budget(num_bytes, "were allowed"),
    )


@pytest.mark.parametrize("name", NAMES)
def test_with_room_for_all_weights_stay_and_pages_are_int8(name: str) -> None:
    choice = chosen(SPECS[name], 10**10)
    assert choice.accepted
    assert (choice.workload.formats, choice.workload.kv_format) == ((), "int8")
    assert choice.workload.context_tokens == 4096
    assert choice.quality.basis == "estimate"
    assert 0 < choice.quality.mean_kld <= MAX_PAGES_KLD
    assert choice.plan.max_rows == 512
    assert given_up(choice) == ""
    (plain,) = [one for one in choice.rejected if one.kv_format == "f16"]
    assert plain.reason.endswith(f"more for {choice.quality.mean_kld:.2g} nats")


@pytest.mark.parametrize(
    "constraints",
    [{"max_kld": 0.0}, {"max_kld": 0.001}, {"kv_format": "f16"}, {"context": 64}],
    ids=str,
)
def test_pages_stay_f16_where_the_bound_or_the_user_says_so_or_int8_saves_nothing(
    constraints,
) -> None:
    choice = chosen(SMALL, 10**10, **constraints)
    assert (choice.workload.formats, choice.workload.kv_format) == ((), "f16")
    assert (choice.quality.mean_kld, choice.quality.basis) == (0.0, "exact")
    assert given_up(choice) == ""


def test_a_narrow_model_keeps_f16_pages_until_they_do_not_fit() -> None:
    """Int8 pages of a model this narrow are estimated to cost more than is taken unasked."""
    spec = tiny_spec("llama")
    spec = dataclasses.replace(spec, context_length=1 << 16)
    whole = chosen(spec, 10**10, context=1 << 16)
    assert whole.workload.kv_format == whole.usual_kv_format == "f16"
    tight = chosen(spec, whole.plan.total_bytes - whole.plan.kv.nbytes // 3, context=1 << 16)
    assert (tight.workload.kv_format, tight.usual_kv_format) == ("int8", "f16")
    assert "KV pages in int8" in given_up(tight)


def test_what_is_left_open_gives_way_in_the_documented_order() -> None:
    """Rows, then pages or weights within the bound, then the context; never the bound."""
    whole = chosen(LARGE, 10**10)
    order = []
    for num_bytes in range(whole.plan.total_bytes, 700 * MIB, -24 * MIB):
        choice = chosen(LARGE, num_bytes)
        if not choice.accepted:
            break
        assert choice.plan.total_bytes <= num_bytes
        assert choice.quality.mean_kld <= quality_bound(None)
        w = choice.workload
        order.append((-w.context_tokens, bool(w.formats)))
        if not w.formats:
            assert w.context_tokens == 4096
    assert order == sorted(order), "a smaller budget never brings a longer context back"
    assert order[-1][0] > order[0][0]
    assert not choice.accepted


@pytest.mark.parametrize("name", NAMES)
def test_what_is_stated_is_kept(name: str) -> None:
    stated = {
        "context": 700, "threads": 3, "concurrency": 2, "max_batch_tokens": 48, "kv_format": "int8",
        "max_kld": 0.0,
    }  # fmt: skip
    choice = chosen(SPECS[name], 10**10, **stated)
    w = choice.workload
    assert (w.context_tokens, w.threads, w.concurrency, w.max_rows, w.kv_format, w.formats) == (
        700, 3, 2, 48, "int8", (),
    )  # fmt: skip
    assert choice.accepted, "int8 pages were asked for, so their loss is not held against the bound"
    changes = [one.change for one in choice.rejected]
    assert all("weights" in change for change in changes), changes


@settings(deadline=None, max_examples=25)
@given(
    name=st.sampled_from(NAMES),
    share=st.floats(0.3, 1.3),
    quality=st.sampled_from(["lossless", "high", "balanced", "small", 0.03]),
    context=st.none() | st.integers(2, 4096),
    kv_format=st.sampled_from([None, "f16", "int8"]),
    measured=st.booleans(),
)
def test_the_choice_fits_is_on_the_front_and_can_be_made_again(
    name, share, quality, context, kv_format, measured
) -> None:
    spec = SPECS[name]
    bound = quality_bound(quality)
    constraints = Constraints(context=context, kv_format=kv_format, max_kld=bound)
    predict = plain_speed() if measured else unmeasured
    whole = choose(
        Question(spec, MACHINE, CpuLayout(), constraints, predict),
        Budget(10**11, "were allowed"),
        compare=False,
    )
    budget = Budget(int(share * whole.plan.total_bytes), "were allowed")
    choice = choose(Question(spec, MACHINE, CpuLayout(), constraints, predict), budget)
    assert choice == choose(Question(spec, MACHINE, CpuLayout(), constraints, predict), budget)
    if not choice.accepted:
        assert choice.plan.total_bytes > budget.num_bytes
        check_relaxations(spec, constraints, budget, predict, choice)
        return
    assert choice.plan.total_bytes <= budget.num_bytes
    evaluator = Evaluator(spec, CpuLayout(), predict)
    mine = evaluator.candidate(choice.workload)
    # Pages that were stated are not held against the bound.
    stated = evaluator.quality(dataclasses.replace(choice.workload, formats=()))
    assert choice.quality.mean_kld <= max(bound, stated.mean_kld if kv_format else 0.0)
    for one in choice.rejected:
        assert one.reason
        if one.context_tokens != choice.workload.context_tokens:
            continue
        if one.total_bytes <= budget.num_bytes and one.quality.mean_kld <= bound:
            better = (
                one.total_bytes <= mine.total_bytes
                and one.quality.mean_kld <= mine.quality.mean_kld
                and one.forecast is not None
                and one.forecast.decode_tokens_per_s > mine.forecast.decode_tokens_per_s
            )
            assert not better, one


def check_relaxations(spec, constraints, budget, predict, refused: PlanChoice) -> None:
    ways = refused.relaxations
    assert len(ways) <= 3
    assert [way.saved_bytes for way in ways] == sorted(way.saved_bytes for way in ways)
    for way in ways:
        assert way.total_bytes <= budget.num_bytes
        changed = dataclasses.replace(constraints, **{FIELDS[way.option]: way.value})
        again = choose(
            Question(spec, MACHINE, CpuLayout(), changed, predict), budget, compare=False
        )
        assert again.accepted, way
    with pytest.raises(BudgetError, match="short") as caught:
        require_fit(refused, budget)
    sentence = str(caught.value)
    assert all(item.name in sentence for item in refused.plan.items)
    assert all(f"{way.option} {way.value}" in sentence for way in ways)


def test_a_refusal_says_what_each_way_out_costs() -> None:
    choice = chosen(LARGE, 800 * MIB)
    assert not choice.accepted
    (way,) = [way for way in choice.relaxations if way.option == "--quality"]
    assert way.added_kld > 0
    assert way.slower is not None
    assert way.slower < 0
    with pytest.raises(BudgetError, match=r"nats more from the file, \d+% faster"):
        require_fit(choice, Budget(800 * MIB, "were allowed"))


def test_a_stated_context_and_format_are_offered_as_relaxations() -> None:
    spec = SPECS["qwen2.5-coder-0.5b"]
    choice = chosen(spec, 520 * MIB, context=32768, kv_format="f16", max_kld=0.0)
    options = {way.option: way for way in choice.relaxations}
    assert options.keys() >= {"--context"}
    assert options["--context"].added_kld == 0
    tight = chosen(spec, 640 * MIB, context=20000, kv_format="f16", max_kld=0.0)
    assert "--kv" in {way.option for way in tight.relaxations}


def test_threads_stop_where_more_bring_less_than_two_percent() -> None:
    for knee in (1, 2, 3, 4):
        assert chosen(SMALL, 10**10, plain_speed(knee=knee)).workload.threads == knee
    assert chosen(SMALL, 10**10, unmeasured).workload.threads == 4
    assert thread_counts(MACHINE) == (1, 2, 3, 4)


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ((50.0, 80.0, 98.5, 100.0), 3),  # 1.5 % less than the best with a thread less
        ((50.0, 80.0, 97.5, 100.0), 4),  # 2.5 % less
        ((98.5, 99.0, 99.5, 100.0), 1),
        ((96.0, 98.5, 100.0, 90.0), 2),
        ((85.0, 100.0, 99.0, 98.0), 2),
    ],
)
def test_threads_are_the_fewest_within_two_percent_of_the_best_forecast(rates, expected) -> None:
    def predict(plan: Plan) -> PlainSpeed:
        rate = rates[min(plan.threads, len(rates)) - 1]
        return PlainSpeed(rate, 1e3 * rate, 1)

    assert chosen(SMALL, 10**10, predict).workload.threads == expected


def test_without_a_forecast_threads_stay_on_one_memory_node() -> None:
    from tonnage.core.machine import NumaNode

    nodes = (NumaNode(0, (0, 1, 2), 1 << 30), NumaNode(1, (3,), 1 << 30))
    machine = dataclasses.replace(MACHINE, numa_nodes=nodes)
    budget = Budget(10**10, "were allowed")
    assert (
        choose(
            Question(SMALL, machine, CpuLayout(), Constraints(), unmeasured), budget
        ).workload.threads
        == 3
    )
    assert (
        choose(
            Question(SMALL, machine, CpuLayout(), Constraints(), plain_speed(knee=4)), budget
        ).workload.threads
        == 4
    )


def test_the_front_keeps_what_nothing_beats() -> None:
    evaluator = Evaluator(SMALL, CpuLayout(), plain_speed())
    base = chosen(SMALL, 10**10).workload
    options = [evaluator.candidate(base, max_rows=rows) for rows in (512, 256)]
    slow = evaluator.candidate(base, threads=1, kv_format="int8", max_rows=512)
    same = dataclasses.replace(options[0])
    assert pareto_front([*options, same]) == [*options, same]
    total, weights = options[0].total_bytes, options[0].weight_bytes
    worse = Candidate(slow.workload, total, weights, slow.forecast, slow.quality)
    assert pareto_front([options[0], worse]) == [options[0]]


def audit(precision: str | None, kv_format: str, reference: str, kld: float) -> AuditResult:
    figure = Estimate(20.0, None, None)
    against = Comparison(
        reference, None, figure, Estimate(kld, None, None), 0.1, 0.5, 1.0, 0.9, 0.9
    )  # fmt: skip
    return AuditResult(
        "m", precision, "text", "0", 1, 256, figure, against, "avx2", 1.0, kv_format
    )  # fmt: skip


def test_a_measured_quality_takes_the_place_of_its_estimate() -> None:
    audits = [audit(None, "int8", "other", 0.5), audit(None, "int8", "m", 0.007)]
    budget = Budget(10**10, "were allowed")
    constraints = Constraints(kv_format="int8")
    choice = choose(Question(SMALL, MACHINE, CpuLayout(), constraints, unmeasured, audits), budget)
    assert (choice.quality.mean_kld, choice.quality.basis) == (0.007, "measured")
    estimated = choose(
        Question(SMALL, MACHINE, CpuLayout(), constraints, unmeasured, audits[:1]), budget
    )
    assert estimated.quality.basis == "estimate"
    assert estimated.quality.factor > 1


@pytest.mark.parametrize(("kld", "expected"), [(0.004, "int8"), (0.006, "f16")])
def test_an_audit_decides_which_pages_are_usual_where_that_is_asked(kld, expected) -> None:
    budget = Budget(10**10, "were allowed")
    audits = [audit(None, "int8", "m", kld)]
    constraints = Constraints(use_audits=True)
    choice = choose(Question(SMALL, MACHINE, CpuLayout(), constraints, unmeasured, audits), budget)
    assert choice.workload.kv_format == choice.usual_kv_format == expected
    assert choice.quality.basis == ("measured" if expected == "int8" else "exact")


@settings(deadline=None, max_examples=15)
@given(
    name=st.sampled_from(NAMES),
    share=st.floats(0.4, 1.2),
    quality=st.sampled_from(["lossless", "high", "balanced", "small"]),
    kv_format=st.sampled_from([None, "f16", "int8"]),
    klds=st.lists(st.tuples(st.sampled_from(["f16", "int8"]), st.floats(0, 1)), max_size=3),
)
def test_audits_that_lie_around_change_no_byte_of_a_plan(
    name, share, quality, kv_format, klds
) -> None:
    """What a cache folder holds is shown; the same command computes the same with and without."""
    spec, bound = SPECS[name], quality_bound(quality)
    constraints = Constraints(kv_format=kv_format, max_kld=bound)
    alone = Question(spec, MACHINE, CpuLayout(), constraints, MEASURED)
    known = dataclasses.replace(alone, audits=[audit(None, kv, "m", kld) for kv, kld in klds])
    whole = choose(alone, Budget(10**11, "were allowed"), compare=False)
    budget = Budget(int(share * whole.plan.total_bytes), "were allowed")
    first, second = choose(alone, budget), choose(known, budget)
    assert first.plan.to_json() == second.plan.to_json()
    assert first == dataclasses.replace(second, quality=first.quality)


def test_a_choice_takes_about_as_long_as_eight_million_additions() -> None:
    # 0.25 s where a million take 40 ms (Zen 5), 0.42 s where they take 90 (Emerald Rapids).
    million = cpu_seconds(lambda: sum(i * i for i in range(1_000_000)))
    for mib in (800, 1000, 2000):
        assert cpu_seconds(partial(chosen, LARGE, mib * MIB)) < 8 * million, mib


@pytest.mark.parametrize(
    ("wanted", "bound"),
    [(None, 0.1), ("lossless", 0.0), ("high", 0.01), ("0.25", 0.25), (0.5, 0.5), (0, 0.0)],
)
def test_a_quality_is_a_name_or_a_number(wanted, bound) -> None:
    assert quality_bound(wanted) == bound


@pytest.mark.parametrize("wanted", ["best", "-1", "nan", "inf", "", "1e999", True, -0.1])
def test_any_other_quality_is_a_sentence(wanted) -> None:
    with pytest.raises(RequestError, match=r"use lossless, high, balanced, small, or"):
        quality_bound(wanted)


@given(st.floats(1e-12, 1e6))
def test_a_bound_is_rounded_up_to_two_digits(value: float) -> None:
    rounded = rounded_up(value)
    assert value < rounded <= 1.11 * value
    assert float(f"{rounded:.2g}") == rounded


@pytest.mark.parametrize("mib", range(860, 1160, 37))
def test_smaller_weights_are_found_wherever_the_huge_pages_end(mib: int) -> None:
    workload = chosen(LARGE, 10**10).workload
    filled = Evaluator(LARGE, CpuLayout(), unmeasured).fill(workload, mib * MIB)
    assert filled is not None
    assert mib * MIB - 16 * MIB < filled.total_bytes <= mib * MIB
