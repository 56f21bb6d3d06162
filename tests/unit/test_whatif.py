"""The forecast on other hardware: units, monotonicity, what is unknown, and purity."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from golden.regenerate import plans
from tonnage.core.hardware import Device, Origin, Peak, Price, Prior, Share, Tier
from tonnage.core.plan import Plan
from tonnage.core.steps import Attend, Gated, Matmul
from tonnage.machine.hardware import load_shipped
from tonnage.planner.cost.whatif import Demand, Load, Rate, demand_of, forecast

PLANS = plans()
STATED = Origin()
PRIOR = Prior(0.5, 0.25)
WORK = Load(1, 1e9, 1e9)
PROMPT = Load(512, 1e9, 512e9)
DEMAND = Demand(2 * 10**9, WORK, PROMPT, ("int8", "bf16"))
HBM = Tier("hbm", "memory", STATED, capacity_bytes=10**10, bandwidth_bytes_per_s=1e12)
DISK = Tier("disk", "storage", STATED, capacity_bytes=10**13, bandwidth_bytes_per_s=1e10)
SRAM = Tier("sram", "memory", STATED, capacity_bytes=10**9, bandwidth_bytes_per_s=1e14)
L2 = Tier("l2", "cache", STATED, capacity_bytes=10**12, bandwidth_bytes_per_s=1e15)
INT8 = Peak("int8", 4e14, STATED)
BOX = Device("box", "A box", "gpu", (HBM,), peaks=(INT8,))


def decode(demand: Demand, device: Device) -> Rate:
    rate = forecast(demand, device, PRIOR).decode
    assert rate is not None
    return rate


def test_units_by_hand():
    answer = forecast(DEMAND, replace(BOX, power_w=100.0), PRIOR)
    # 1e9 bytes at 0.5e12 bytes/s are 2 ms; 2e9 operations at 1e14/s are 20 us.
    assert answer.decode == Rate(pytest.approx(500), "hbm", pytest.approx(1000))
    # 512e9 multiply-adds are 1,024e9 operations: 10.24 ms at 1e14/s.
    assert answer.prefill == Rate(pytest.approx(50_000), "compute", pytest.approx(200_000))
    assert (answer.joules_per_token, answer.joules_basis) == (pytest.approx(0.2), "full power")
    assert answer.number_format == "int8"
    assert answer.likely_too_fast
    slow = replace(DEMAND, decode=Load(1, 2e9, 1e9))
    assert not forecast(slow, BOX, PRIOR).likely_too_fast


def test_energy_of_bytes_and_static_power():
    counted = replace(HBM, energy_pj_per_byte=100.0)
    alone = forecast(DEMAND, replace(BOX, tiers=(counted,), power_w=9.0), PRIOR)
    assert (alone.joules_per_token, alone.joules_basis) == (pytest.approx(0.1), "bytes alone")
    both = forecast(DEMAND, replace(BOX, tiers=(counted,), static_w=50.0), PRIOR)
    assert (both.joules_per_token, both.joules_basis) == (pytest.approx(0.2), "modelled")


def test_cost_spans_all_offers():
    offers = (Price("a", "2026", (1.8, 3.6), STATED), Price("b", "2025", (2.0, 7.2), STATED))
    answer = forecast(DEMAND, replace(BOX, prices=offers), PRIOR)
    # A million tokens take 2,000 s.
    assert answer.usd_per_million_tokens == (pytest.approx(1.0), pytest.approx(4.0))


def test_the_nearest_tier_that_holds_the_model_is_its_home():
    tiers = (L2, SRAM, HBM, DISK)
    assert forecast(DEMAND, replace(BOX, tiers=tiers), PRIOR).home == "hbm"
    small = replace(DEMAND, held_bytes=10**9)
    assert forecast(small, replace(BOX, tiers=tiers), PRIOR).home == "sram"
    large = replace(DEMAND, held_bytes=10**12)
    assert forecast(large, replace(BOX, tiers=tiers), PRIOR).home == "disk"
    assert decode(large, replace(BOX, tiers=tiers)).bottleneck == "disk"


def test_what_does_not_fit_is_short_of_bytes():
    answer = forecast(replace(DEMAND, held_bytes=10**10 + 1), BOX, PRIOR)
    assert (answer.home, answer.short_bytes, answer.devices_needed) == (None, 1, 2)
    assert answer.decode is answer.prefill is answer.joules_per_token is None


def test_a_tier_of_unknown_size_holds_only_what_no_other_does():
    vague = replace(HBM, name="vague", capacity_bytes=None)
    first = replace(BOX, tiers=(vague, DISK))
    assert forecast(DEMAND, first, PRIOR).home == "disk"
    answer = forecast(DEMAND, replace(BOX, tiers=(SRAM, vague)), PRIOR)
    assert answer.home == "vague"
    assert any("capacity of tier vague is not known" in line for line in answer.unknown)


def test_missing_facts_are_said_and_give_no_figure():
    bare = Device("bare", "Bare", "gpu", (replace(HBM, bandwidth_bytes_per_s=None),))
    answer = forecast(DEMAND, bare, PRIOR)
    assert answer.decode is answer.prefill is None
    words = " ".join(answer.unknown)
    assert "bandwidth of tier hbm is not known" in words
    assert "No peak from int8 to bf16" in words
    known = forecast(DEMAND, replace(bare, tiers=(HBM,)), PRIOR)
    assert known.decode is not None
    assert known.prefill is None
    words = " ".join(known.unknown)
    assert "joules" in words
    assert "price" in words
    assert "expect fewer" in words
    assert known.likely_too_fast


def test_a_share_of_its_own_comes_first_and_a_slow_plain_read_limits_the_prior():
    own = Share("decode", 0.8, "", STATED)
    slow, quick = Share("stream", 0.4, "", STATED), Share("stream", 0.9, "", STATED)
    bases = {}
    for shares in ((own, quick), (slow,), (quick,), ()):
        answer = forecast(DEMAND, replace(BOX, shares=shares), PRIOR)
        bases[shares] = (answer.share_basis, answer.bandwidth_share)
    assert list(bases.values()) == [
        ("decode", 0.8), ("stream", 0.4), ("prior", 0.5), ("prior", 0.5),
    ]  # fmt: skip


positive = st.floats(1e6, 1e16)


@given(positive, positive, st.floats(1, 1000), st.floats(1e6, 1e13), st.floats(1e6, 1e13))
def test_more_bandwidth_or_compute_is_never_slower(bandwidth, ops, factor, read_bytes, macs):
    demand = Demand(10, Load(1, read_bytes, macs), Load(7, read_bytes, macs), ("int8",))

    def rates(bandwidth: float, ops: float) -> list[float]:
        tier = replace(HBM, bandwidth_bytes_per_s=bandwidth)
        device = replace(BOX, tiers=(tier,), peaks=(replace(INT8, ops_per_s=ops),))
        answer = forecast(demand, device, PRIOR)
        assert answer.decode is not None
        assert answer.prefill is not None
        return [answer.decode.tokens_per_s, answer.prefill.tokens_per_s]

    base = rates(bandwidth, ops)
    for better in (rates(bandwidth * factor, ops), rates(bandwidth, ops * factor)):
        assert all(new >= old for new, old in zip(better, base, strict=True))


@given(positive, st.floats(1, 100), st.floats(1e6, 1e13))
def test_more_bytes_are_never_faster_and_a_share_never_helps(bandwidth, factor, read_bytes):
    device = replace(BOX, tiers=(replace(HBM, bandwidth_bytes_per_s=bandwidth),))
    light = Demand(10, Load(1, read_bytes, 1e9), PROMPT, ("int8",))
    heavy = replace(light, decode=Load(1, read_bytes * factor, 1e9))
    fast, slow = decode(light, device), decode(heavy, device)
    assert slow.tokens_per_s <= fast.tokens_per_s <= fast.ceiling_tokens_per_s


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_asks_for_its_own_bytes(name):
    plan = PLANS[name]
    demand = demand_of(plan)
    assert demand.held_bytes == plan.arena_bytes
    cached = demand.decode.read_bytes - plan.weight_bytes_per_token
    assert 0 < cached <= plan.kv.nbytes / plan.concurrency
    assert demand.decode.macs > plan.macs_per_row + plan.late_macs_per_row
    assert demand.prefill.macs > demand.prefill.tokens * plan.macs_per_row


@pytest.mark.parametrize("name", PLANS)
def test_attention_of_a_whole_context_by_hand(name):
    plan = PLANS[name]
    expected_bytes, expected_macs = 0, 0
    attends = [step for step in plan.steps if isinstance(step, Attend)]
    for step, layer in zip(attends, plan.kv.layers, strict=True):
        seen = min(plan.context_tokens, step.window or plan.context_tokens)
        is_int8 = plan.kv.format == "int8"
        # Values lie by sixteens, and keys where they are codes.
        keys = -(-layer.k_dim // 16) * 16 if is_int8 else layer.k_dim
        elements = keys + -(-layer.v_dim // 16) * 16
        per_head = elements + 4 if is_int8 else 2 * elements
        expected_bytes += layer.num_heads * per_head * seen
        expected_macs += step.num_heads * (layer.k_dim + layer.v_dim) * seen
    demand = demand_of(plan)
    found = demand.decode.read_bytes - plan.weight_bytes_per_token
    assert found == pytest.approx(expected_bytes)
    # Panels are multiplied whole, their padding too.
    padded = sum(-(-m.rows // 32) * 32 * m.cols for m in plan.matrices if m.name in _used(plan))
    assert demand.decode.macs - padded == expected_macs


def _used(plan: Plan) -> set[str]:
    """Return the matrices that a step multiplies with."""
    products = [step for step in plan.steps if isinstance(step, Matmul)]
    gates = [step for step in plan.steps if isinstance(step, Gated)]
    return {part.weight for step in products for part in step.parts} | {
        name for step in gates for name in (step.gate, step.up)
    }


def test_the_same_facts_give_the_same_answer_and_nothing_is_changed():
    catalog = load_shipped()
    before = repr(catalog)
    for plan in PLANS.values():
        again = demand_of(Plan.from_json(plan.to_json()))
        assert again == demand_of(plan)
        for device in catalog.devices.values():
            answer = forecast(again, device, catalog.prior)
            assert answer == forecast(again, device, catalog.prior)
            for rate in (answer.decode, answer.prefill):
                assert rate is None or math.isfinite(rate.tokens_per_s)
    assert repr(catalog) == before == repr(load_shipped())
