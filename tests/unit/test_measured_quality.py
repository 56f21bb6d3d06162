"""A plan shows what was measured of just its weights and pages, and of nothing else."""

from dataclasses import replace

import pytest

from golden.spec_files import load
from tonnage.backends.cpu.layout.cpu_layout import CpuLayout
from tonnage.core.quality import AuditResult, Comparison, Estimate, PlanQuality
from tonnage.core.workload import Workload
from tonnage.machine.host import read_machine
from tonnage.planner.quality.allocator import Allocator, menus
from tonnage.planner.quality.measured import audit_of, known_quality
from tonnage.planner.quality.precision import mix_id
from tonnage.planner.search.budget import Budget
from tonnage.planner.search.choose import PlanChoice, Question, choose
from tonnage.planner.search.constraints import Constraints

SPEC = load("smollm2-135m")
OWN_BYTES = sum(formats[0].nbytes for formats in menus(SPEC, CpuLayout()).values())
MIX = Allocator(SPEC, CpuLayout()).formats(int(0.8 * OWN_BYTES))
OTHER = Allocator(SPEC, CpuLayout()).formats(int(0.9 * OWN_BYTES))
WORKLOAD = Workload(context_tokens=512, threads=1, formats=MIX, kv_format="int8")
ESTIMATED = PlanQuality(0.02, "estimate", 2.4)
AUDIT = AuditResult(
    model="m", precision=None, text="t", text_sha256="0", num_chunks=1, num_scored=256,
    perplexity=Estimate(20.0, None, None), isa="avx2", seconds=1.0, kv_format="int8",
    mix=mix_id(SPEC, MIX),
    comparison=Comparison(
        "m", None, Estimate(20.0, None, None), Estimate(0.03, None, None), 0.01, 0.5, 1.0, 0.9, 0.9
    ),
)  # fmt: skip


def test_the_audit_of_the_mix_takes_the_place_of_its_estimate():
    assert audit_of(SPEC, WORKLOAD, [AUDIT]) == AUDIT
    known = known_quality(ESTIMATED, AUDIT)
    assert known == PlanQuality(0.03, "measured", 1.0, estimated_kld=0.02)
    assert known_quality(ESTIMATED, None) is ESTIMATED


@pytest.mark.parametrize(
    "change",
    [
        {"mix": mix_id(SPEC, OTHER)}, {"mix": ""}, {"kv_format": "f16"}, {"comparison": None},
        {"comparison": replace(AUDIT.comparison, reference="another")},
        {"comparison": replace(AUDIT.comparison, reference_precision="8bit")},
        {"comparison": replace(AUDIT.comparison, reference_kv_format="int8")},
    ],
)  # fmt: skip
def test_an_audit_of_anything_else_is_none_of_it(change):
    assert audit_of(SPEC, WORKLOAD, [replace(AUDIT, **change)]) is None


def test_the_file_as_it_stands_is_exact_whatever_was_measured():
    exact = PlanQuality(0.0, "exact")
    assert known_quality(exact, AUDIT) is exact


def test_a_mix_is_told_by_what_differs_from_the_file():
    assert MIX
    assert OTHER
    ids = {mix_id(SPEC, formats) for formats in ((), MIX, OTHER, MIX[1:])}
    assert len(ids) == 4
    kept = tuple((name, SPEC.weights[name].format.name) for name in ("embed",))
    assert mix_id(SPEC, kept) == mix_id(SPEC, ()) == ""
    assert mix_id(SPEC, MIX) == mix_id(SPEC, tuple(reversed(MIX)))


def choose_under(num_bytes: int, audits: list[AuditResult]) -> PlanChoice:
    budget = Budget(num_bytes, "were allowed")
    question = Question(
        SPEC, read_machine(), CpuLayout(), Constraints(threads=2), lambda _: None, audits
    )
    return choose(question, budget)


@pytest.mark.parametrize("kld", [1e-6, 50.0])
def test_what_was_measured_is_shown_and_draws_no_choice(kld):
    whole = choose_under(10**10, []).plan.total_bytes
    before = choose_under(int(0.7 * whole), [])
    assert before.workload.formats
    audit = replace(
        AUDIT,
        mix=mix_id(SPEC, before.workload.formats), kv_format=before.workload.kv_format,
        comparison=replace(AUDIT.comparison, mean_kld=Estimate(kld, None, None)),
    )  # fmt: skip
    after = choose_under(int(0.7 * whole), [audit])
    assert after.workload == before.workload
    assert after.quality.mean_kld == kld
    assert after.quality.estimated_kld == before.quality.mean_kld
