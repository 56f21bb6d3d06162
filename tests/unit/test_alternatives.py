"""The plans beside the chosen one: which changes are looked at, and what speaks against each."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest

from golden.regenerate import tiny_spec
from support.speeds import PlainSpeed
from tonnage.backends.cpu.layout.plan import make_plan
from tonnage.core.plan import Plan
from tonnage.core.quality import PlanQuality
from tonnage.core.workload import Workload
from tonnage.planner.search.alternatives import (
    Alternative,
    Bounds,
    alternatives_of,
    held_bits,
    weight_bits,
    weights_words,
)
from tonnage.planner.search.candidate import Candidate
from tonnage.planner.search.constraints import Constraints

MIB = 1 << 20
CHOSEN = Workload(4096, 4, max_rows=256, kv_format="int8")
STATED = Constraints(
    context=4096, threads=4, precision="8bit", max_batch_tokens=256, kv_format="int8"
)
Figures = tuple[int, float | None, float]  # bytes, seconds of a request, nats
USUAL: Figures = (100 * MIB, 2.0, 0.004)


def made(workload: Workload, figures: Figures) -> Candidate:
    num_bytes, seconds, nats = figures
    # A prompt of 512 tokens takes half of the seconds, a completion of 128 the other half.
    speed = None if seconds is None else PlainSpeed(256 / seconds, 1024 / seconds, 1)
    weights = 60 * MIB
    return Candidate(workload, num_bytes, weights, speed, PlanQuality(nats, "estimate", 2.0))


class Made:
    """An evaluator of made-up figures; notes which bytes weights were to fill."""

    def __init__(
        self, figures: Callable[[Workload], Figures], filled: Candidate | None = None
    ) -> None:
        self.spec = SimpleNamespace(context_length=8192)
        self.budgets: list[int] = []
        self._figures = figures
        self._filled = filled

    def candidate(self, workload: Workload, **changes: object) -> Candidate:
        changed = replace(workload, **changes)  # type: ignore[arg-type]
        return made(changed, self._figures(changed))

    def fill(self, workload: Workload, budget_bytes: int) -> Candidate | None:
        assert workload.kv_format == CHOSEN.kv_format
        self.budgets.append(budget_bytes)
        return self._filled

    def plan(self, workload: Workload) -> Plan:
        return make_plan(tiny_spec("llama"), Workload(64, 1, formats=workload.formats))


def beside(
    constraints: Constraints,
    figures: Figures = USUAL,
    *,
    chosen: Candidate | None = None,
    filled: Candidate | None = None,
) -> dict[str, Alternative]:
    """Return the alternatives by what they change, all of them with the same figures."""
    evaluator = Made(lambda _: figures, filled)
    bounds = Bounds(110 * MIB, 0.1)
    found = alternatives_of(
        evaluator,  # type: ignore[arg-type]
        chosen or made(CHOSEN, USUAL),
        constraints,
        bounds,
    )
    return {one.change: one for one in found}


def test_what_is_stated_has_no_alternative() -> None:
    assert beside(STATED) == {}


@pytest.mark.parametrize(
    ("opened", "chosen", "changes"),
    [
        ({"kv_format": None}, {}, ["KV pages in f16"]),
        ({"kv_format": None}, {"kv_format": "f16"}, ["KV pages in int8"]),
        ({"context": None}, {}, ["context of 8,192 tokens", "context of 2,048 tokens"]),
        ({"context": None}, {"context_tokens": 8192}, ["context of 4,096 tokens"]),
        ({"context": None}, {"context_tokens": 3}, ["context of 6 tokens"]),
        ({"context": None}, {"context_tokens": 4}, ["context of 8 tokens", "context of 2 tokens"]),
        ({"max_batch_tokens": None}, {}, ["512 rows per step", "128 rows per step"]),
        ({"max_batch_tokens": None}, {"max_rows": 512}, ["256 rows per step"]),
        ({"max_batch_tokens": None}, {"max_rows": 32}, ["64 rows per step", "16 rows per step"]),
        ({"max_batch_tokens": None}, {"max_rows": 16}, ["32 rows per step"]),
        (
            {"max_batch_tokens": None},
            {"max_rows": 32, "concurrency": 17},
            ["64 rows per step"],
        ),
        (
            {"max_batch_tokens": None},
            {"max_rows": 64, "max_logit_rows": 33},
            ["128 rows per step"],
        ),
        ({"threads": None}, {}, ["3 threads", "5 threads"]),
        ({"threads": None}, {"threads": 2}, ["1 thread", "3 threads"]),
        ({"threads": None}, {"threads": 1}, ["2 threads"]),
    ],
    ids=str,
)
def test_one_change_each_of_what_was_left_open(opened, chosen, changes) -> None:
    candidate = made(replace(CHOSEN, **chosen), USUAL)
    found = beside(replace(STATED, **opened), chosen=candidate)
    assert list(found) == changes
    for change, one in found.items():
        words = change.replace(",", "").split()
        rows, threads, context = candidate.workload.max_rows, candidate.workload.threads, None
        if "rows" in words:
            rows = int(words[0])
        elif words[-1].startswith("thread"):
            threads = int(words[0])
        elif "context" in words:
            context = int(words[2])
        assert (one.max_batch_tokens, one.threads) == (rows, threads)
        assert one.context_tokens == (context or candidate.workload.context_tokens)


def test_without_a_forecast_threads_have_no_alternative() -> None:
    candidate = made(CHOSEN, (100 * MIB, None, 0.004))
    assert beside(replace(STATED, threads=None), chosen=candidate) == {}


def test_open_weights_are_compared_with_the_files_and_with_about_one_format_less() -> None:
    smaller = made(replace(CHOSEN, formats=(("embed", "Q4_1"),)), (90 * MIB, 1.5, 0.05))
    evaluator = Made(lambda _: USUAL, smaller)
    opened = replace(STATED, precision=None)
    bounds = Bounds(110 * MIB, 0.1)
    mixed = made(replace(CHOSEN, formats=(("embed", "Q8_0"),)), USUAL)
    for chosen, changes in ((made(CHOSEN, USUAL), 1), (mixed, 2)):
        found = alternatives_of(evaluator, chosen, opened, bounds)  # type: ignore[arg-type]
        assert len(found) == changes
        bits = weight_bits(evaluator.plan(smaller.workload))
        assert found[-1].change == f"weights of {bits:.2f} bits"
        assert found[-1].total_bytes == 90 * MIB
        if changes == 2:
            assert found[0].change == "weights of the file"
            assert found[0].weights.startswith("16.00 bits")
    # 15 % of 60 MiB of weights less than what the chosen plan takes.
    assert evaluator.budgets == [100 * MIB - (60 * MIB - int(0.85 * 60 * MIB))] * 2
    assert list(beside(opened)) == [], "smaller ones than these there are none"


@pytest.mark.parametrize(
    ("figures", "reason"),
    [
        ((110 * MIB + 1, 1.0, 0.0), "1 B over the budget"),
        ((113 * MIB, 1.0, 0.2), "3.0 MiB over the budget"),
        ((110 * MIB, 1.0, 0.101), "beyond the bound of 0.1 nats"),
        ((101 * MIB, 2.0, 0.004), "better in nothing"),
        ((100 * MIB, 2.1, 0.005), "better in nothing"),
        ((99 * MIB, 2.0, 0.005), "more loss than is needed"),
        ((90 * MIB, 1.0, 0.1), "more loss than is needed"),
        ((103 * MIB, 2.0, 0.0012), "3.0 MiB more for 0.0028 nats"),
        ((99 * MIB, 2.25, 0.004), "a request takes 12.5% longer"),
        ((101 * MIB, 1.5, 0.004), "a request takes 25.0% less"),
        ((99 * MIB, None, 0.004), "slower, not measured by how much"),
    ],
)
def test_the_first_thing_that_speaks_against_one(figures: Figures, reason: str) -> None:
    (found,) = beside(replace(STATED, kv_format=None), figures).values()
    assert found.reason == reason
    assert (found.total_bytes, found.quality.mean_kld) == (figures[0], figures[2])
    assert (found.kv_format, found.context_tokens) == ("f16", 4096)
    assert (found.max_batch_tokens, found.threads) == (256, 4)
    assert (found.forecast is None) == (figures[1] is None)


@pytest.mark.parametrize(
    ("figures", "longer", "shorter"),
    [
        (USUAL, "not asked for (--context)", "a longer one fits"),
        ((90 * MIB, 1.0, 0.004), "not asked for (--context)", "a longer one fits"),
        (
            (90 * MIB, 1.0, 0.005),
            "more loss, not asked for (--context)",
            "more loss than is needed",
        ),
        ((111 * MIB, 1.0, 0.004), "1.0 MiB over the budget", "1.0 MiB over the budget"),
    ],
)
def test_a_context_is_no_better_for_being_shorter(
    figures: Figures, longer: str, shorter: str
) -> None:
    found = beside(replace(STATED, context=None), figures)
    assert [one.reason for one in found.values()] == [longer, shorter]


def test_bits_of_weights_are_those_of_their_elements() -> None:
    """In bfloat16 16 of them; in Q8_0, 32 codes of 8 bits and a scale of 16, 8.5 of them."""
    spec = tiny_spec("llama")
    plain = make_plan(spec, Workload(64, 1))
    assert weight_bits(plain) == 16
    assert weights_words(plain) == "16.00 bits (BF16)"
    sizes = {matrix.name: matrix.rows * matrix.cols for matrix in plain.matrices}
    embed, whole = sizes["embed"], sum(sizes.values())
    mixed = make_plan(spec, Workload(64, 1, formats=(("embed", "Q8_0"),)))
    bits = (8.5 * embed + 16 * (whole - embed)) / whole
    assert weight_bits(mixed) == pytest.approx(bits)
    assert weights_words(mixed) == f"{bits:.2f} bits (BF16, Q8_0)"
    # The rows of a matrix lie in panels of 32 in memory, so 307 rows take 320.
    held = 8 * sum(matrix.nbytes for matrix in plain.matrices) / whole
    assert held_bits(plain) == pytest.approx(held)
    assert held > 16


def test_words_name_the_three_formats_that_hold_most() -> None:
    spec = tiny_spec("llama")
    plan = make_plan(spec, Workload(64, 1))
    names = ("Q8_0", "Q4_1", "Q5_1", "Q5_0", "Q4_0")
    sizes = (10, 30, 20, 20, 5)
    matrices = tuple(
        replace(plan.matrices[0], format=name, rows=rows, cols=32)
        for name, rows in zip(names, sizes, strict=True)
    )
    words = weights_words(replace(plan, matrices=matrices))
    assert words.endswith("bits (Q4_1, Q5_0, Q5_1 and 2 more)")
    assert weights_words(replace(plan, matrices=matrices[:3])).endswith("(Q4_1, Q5_1, Q8_0)")
    # Two of 10 rows are less than one of 30, two of 20 are more; a wide one counts by its columns.
    double = (*matrices[:3], matrices[0], matrices[2])
    assert weights_words(replace(plan, matrices=double)).endswith("(Q5_1, Q4_1, Q8_0)")
    wide = (*matrices[:3], replace(matrices[0], rows=1, cols=1024))
    assert weights_words(replace(plan, matrices=wide)).endswith("(Q8_0, Q4_1, Q5_1)")


def test_a_longer_context_is_shown_with_the_weights_that_fit_beside_it() -> None:
    """What `--context` would cost, with the fewest usual batch tokens where they are open."""
    opened = replace(STATED, context=None, precision=None, max_batch_tokens=None)
    chosen = made(replace(CHOSEN, context_tokens=2048), USUAL)
    smaller = made(
        replace(CHOSEN, max_rows=128, formats=(("embed", "Q4_1"),)), (109 * MIB, 2.0, 0.03)
    )
    longer = beside(opened, (111 * MIB, 2.0, 0.004), chosen=chosen, filled=smaller)[
        "context of 4,096 tokens"
    ]
    assert (longer.total_bytes, longer.quality.mean_kld) == (109 * MIB, 0.03)
    assert longer.reason == "more loss, not asked for (--context)"
    none = beside(opened, (111 * MIB, 2.0, 0.004), chosen=chosen)["context of 4,096 tokens"]
    assert none.reason == "1.0 MiB over the budget"
