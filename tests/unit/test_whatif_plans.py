"""What a plan asks of another machine, counted by hand, and how fast it runs there.

The model has two layers of width 128 (test_forecast_work.py): so many weights in bfloat16 before
and behind its last keys and values, four heads of 64, K and V of two heads per position and layer.
"""

from dataclasses import replace

import pytest

from golden.regenerate import tiny_spec
from tonnage.backends.cpu.layout.plan import make_plan
from tonnage.core.hardware import Device, Origin, Peak, Prior, Share, Tier
from tonnage.core.plan import Plan
from tonnage.core.workload import Workload
from tonnage.planner.cost.whatif import Demand, Load, demand_of, forecast, speed_on

EARLY = 2 * 512 * 128 + 128 * 256 + 3 * 128 * 160
LATE = 128 * 256 + 3 * 128 * 160 + 320 * 128
NORM_BYTES = 5 * 128 * 4
WEIGHT_BYTES = 2 * (EARLY + LATE) + NORM_BYTES
POSITION_BYTES = 2 * 512  # of both layers, in float16
POSITION_MACS = 2 * 4 * 128
STATED = Origin()
PRIOR = Prior(0.5, 0.25)
MEMORY = Tier("memory", "memory", STATED, capacity_bytes=1 << 40, bandwidth_bytes_per_s=1e9)
BOX = Device("box", "A box", "gpu", (MEMORY,))
PEAKS = tuple(
    Peak(form, ops, STATED)  # type: ignore[arg-type]
    for form, ops in (("int8", 8e12), ("bf16", 4e12), ("fp32", 1e12))
)


def plan(context_tokens: int = 200, **changes: object) -> Plan:
    return make_plan(tiny_spec("llama"), Workload(context_tokens, 2, **changes))  # type: ignore[arg-type]


def test_a_token_behind_a_full_context_reads_all_of_it() -> None:
    demand = demand_of(plan())
    assert demand.decode == Load(
        1, WEIGHT_BYTES + 200 * POSITION_BYTES, EARLY + LATE + 200 * POSITION_MACS
    )


@pytest.mark.parametrize(
    ("context_tokens", "max_rows", "ends"),
    [
        (200, 64, (64, 128, 192, 200)),
        (200, 512, (200,)),
        (128, 64, (64, 128)),
        (1000, 512, (512,)),
        (1000, 500, (500, 512)),
    ],
)
def test_a_prompt_reads_the_weights_for_each_chunk(
    context_tokens: int, max_rows: int, ends: tuple[int, ...]
) -> None:
    demand = demand_of(plan(context_tokens, max_rows=max_rows))
    tokens = ends[-1]
    read_bytes = len(ends) * WEIGHT_BYTES + sum(ends) * POSITION_BYTES
    seen = tokens * (tokens + 1) // 2
    assert demand.prefill == Load(tokens, read_bytes, tokens * EARLY + LATE + seen * POSITION_MACS)


def test_speed_in_the_words_of_this_machine() -> None:
    """1e9 bytes/s, of which half is reached; 4e12 operations/s in bfloat16, of which a quarter."""
    decode = 0.5e9 / (WEIGHT_BYTES + 200 * POSITION_BYTES)
    bare = speed_on(plan(), BOX, PRIOR)
    assert bare is not None
    assert bare.decode_tokens_per_s == pytest.approx(decode)
    assert (bare.prefill_tokens_per_s, bare.time_to_first_token_ns) == (None, None)
    assert bare.bottleneck == "memory"
    slow = Peak("bf16", 1e9, STATED)
    seconds = 2 * (200 * EARLY + LATE + 200 * 201 // 2 * POSITION_MACS) / 0.25e9
    found = speed_on(plan(), replace(BOX, peaks=(slow,)), PRIOR)
    assert found is not None
    assert found.prefill_tokens_per_s == pytest.approx(200 / seconds)
    assert found.time_to_first_token_ns == pytest.approx(1e9 * seconds, abs=1)
    computing = 2 * (EARLY + LATE + 200 * POSITION_MACS) / 0.25e9
    assert found.decode_tokens_per_s == pytest.approx(1 / computing)
    assert found.bottleneck == "compute"
    small = replace(MEMORY, capacity_bytes=1000)
    assert speed_on(plan(), replace(BOX, tiers=(small,)), PRIOR) is None


def test_the_first_token_of_a_long_context_is_that_of_512() -> None:
    found = speed_on(plan(1000), replace(BOX, peaks=PEAKS), PRIOR)
    assert found is not None
    assert found.prefill_tokens_per_s is not None
    assert found.time_to_first_token_ns == pytest.approx(512e9 / found.prefill_tokens_per_s, abs=1)


def test_a_share_of_compute_that_was_measured_comes_first() -> None:
    device = replace(BOX, peaks=PEAKS)
    demand = Demand(10, Load(1, 1.0, 1e9), Load(1, 1.0, 1e9), ("int8",))
    for shares, expected in (((), 0.25), ((Share("compute", 0.8, "", STATED),), 0.8)):
        found = forecast(demand, replace(device, shares=shares), PRIOR)
        assert found.compute_share == expected
        assert found.decode is not None
        assert found.decode.tokens_per_s == pytest.approx(8e12 * expected / 2e9)


@pytest.mark.parametrize(
    ("formats", "number_format"),
    [
        (("BF16",), "bf16"),
        (("F16",), "bf16"),
        (("F8_E4M3",), "bf16"),
        (("F32",), "fp32"),
        (("F64",), "fp32"),
        (("Q8_0",), "int8"),
        (("Q4_K",), "int8"),
        (("F32", "Q4_K", "Q4_K"), "int8"),
        (("Q8_0", "F32", "F64"), "fp32"),
        (("BF16", "Q4_K", "F16"), "bf16"),
    ],
)
def test_weights_are_multiplied_in_what_most_of_them_allow(
    formats: tuple[str, ...], number_format: str
) -> None:
    made = plan()
    matrix = made.matrices[0]
    matrices = [replace(matrix, format=name, rows=64, cols=64) for name in formats]
    # Those that the steps name stay; they are next to nothing.
    rest = [replace(one, rows=1, cols=1, format=formats[0]) for one in made.matrices]
    demand = demand_of(replace(made, matrices=(*rest, *matrices)))
    found = forecast(demand, replace(BOX, peaks=PEAKS), PRIOR)
    assert found.number_format == number_format


def test_a_step_shorter_than_any_published_one_is_said_to_be() -> None:
    demand = Demand(10, Load(1, 1e6, 1.0), Load(1, 1e6, 1.0), ("int8", "bf16"))
    found = forecast(demand, BOX, PRIOR)  # 1e6 bytes at 0.5e9 bytes/s
    assert found.likely_too_fast
    assert any(
        "of 2 ms, is shorter than the 3 ms of the shortest published one" in line
        for line in found.unknown
    )
    assert found.unknown[0].startswith("No peak from int8 to bf16 is known")
    assert (found.short_bytes, found.devices_needed) == (0, None)


def test_without_a_home_there_is_nothing_to_say_of_joules_and_prices() -> None:
    demand = Demand(1 << 41, Load(1, 1e6, 1.0), Load(1, 1e6, 1.0), ("int8",))
    found = forecast(demand, replace(BOX, peaks=PEAKS), PRIOR)
    assert found.unknown == ()
    assert (found.short_bytes, found.devices_needed) == (1 << 40, 2)
