"""The forecast: two terms per product, and what a step takes beside them."""

import json
from collections import Counter

import pytest

from golden.regenerate import tiny_spec
from support.checkpoints import matrices, tiny_config, tiny_model, write_gguf
from support.layers import attention_of
from support.rates import BYTES_PER_S, MACS_PER_S, made_up_rates
from support.yardstick import cpu_seconds, loop_seconds
from tonnage.backends.cpu.layout.plan import make_plan
from tonnage.core.errors import MachineError
from tonnage.core.plan import Plan
from tonnage.core.rates import Rates
from tonnage.core.steps import Attend, Gated, Matmul
from tonnage.core.workload import Workload
from tonnage.formats.gguf import GgufFile
from tonnage.machine.rates_fit import without_cached
from tonnage.models.registry import spec_from_gguf
from tonnage.planner.cost.forecast import forecast, prefill_s, step_s
from tonnage.planner.cost.work import Attention, attend_passes, work_of

RATES = made_up_rates()


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    config = tiny_config("gemma2", hidden_size=256, max_position_embeddings=4096)
    path = tmp_path_factory.mktemp("forecast") / "tiny.gguf"
    write_gguf(path, tiny_model(config, seed=1), matrices("Q8_0"))
    with GgufFile.open(str(path)) as file:
        return spec_from_gguf(file.metadata, file.catalog)


def planned(spec, threads: int = 1, **workload) -> Plan:
    return make_plan(spec, Workload(**{"context_tokens": 2048, "threads": threads} | workload))


def test_the_sums_are_those_of_the_plan(spec):
    plan = planned(spec)
    work = work_of(plan)
    vectors = sum(vector.nbytes for vector in plan.vectors)
    assert work.macs_per_row == plan.macs_per_row
    assert work.read_bytes == plan.weight_bytes_per_token - vectors
    assert work.num_products == sum(isinstance(step, Matmul | Gated) for step in plan.steps)
    # f16 keys and values of every layer that sees all positions, of the window for the others.
    seen = sum(
        min(100, step.window or 100) * step.kv.num_kv_heads * (step.kv.k_dim + step.kv.v_dim)
        for step in plan.steps
        if isinstance(step, Attend)
    )
    assert work.kv_bytes(99) == pytest.approx(2 * seen)


def test_one_row_waits_for_the_memory_and_many_for_the_multipliers(spec):
    work = work_of(planned(spec))
    reading = work.read_bytes / BYTES_PER_S
    one = step_s(work, RATES, 1, 0)
    assert reading < one
    many = prefill_s(work, RATES, 512)
    assert 512 * work.macs_per_row / MACS_PER_S < many < 512 * one / 4


def test_a_cache_saves_the_reading(spec):
    work = work_of(planned(spec))
    all_cached = made_up_rates(cached_bytes=round(10 * work.read_bytes))
    half_cached = made_up_rates(cached_bytes=round(0.5 * work.read_bytes))
    times = [step_s(work, rates, 1, 0) for rates in (RATES, half_cached, all_cached)]
    assert times == sorted(times, reverse=True)
    saved = work.read_bytes / BYTES_PER_S - sum(p.weights for p in work.products) / MACS_PER_S
    saved += 2 * 4 * work.vocab_size / BYTES_PER_S  # logits, read and written back
    assert times[0] - times[2] == pytest.approx(saved, rel=1e-6)


def test_speed_grows_with_rows_and_threads_and_falls_with_positions(spec):
    for rows in (1, 2, 4, 8):
        one, two = (forecast(planned(spec, n), RATES, rows=rows) for n in (1, 2))
        assert one.decode_tokens_per_s < two.decode_tokens_per_s
    speeds = [forecast(planned(spec), RATES, rows=n).decode_tokens_per_s for n in range(1, 9)]
    assert speeds == sorted(speeds)
    far = [forecast(planned(spec), RATES, position=at).decode_tokens_per_s for at in (0, 500, 2000)]
    assert far == sorted(far, reverse=True)


@pytest.mark.parametrize("kv_format", ["f16", "int8"])
def test_64_more_positions_cost_their_scores_values_and_bytes(kv_format):
    """One more page to attend, with one thread: its time follows from the made-up rates alone.

    Per query head and position 1e-10 s for the pair and 1e-11 s per element of K and V; per byte of
    K and V 1e-12 s to read it (support.rates).
    """
    spec = tiny_spec("llama")
    plan = planned(spec, kv_format=kv_format, context_tokens=256)
    expected = 0.0
    for layer in spec.layers:
        a = attention_of(layer)
        elements = a.k_dim + a.v_dim
        each = elements + 4 if kv_format == "int8" else 2 * elements  # int8: two scales in f16
        expected += 64 * a.num_heads * (1e-10 + 1e-11 * elements)
        expected += 64 * a.num_kv_heads * each * 1e-12
    work = work_of(plan)
    more = step_s(work, RATES, 1, 127) - step_s(work, RATES, 1, 63)
    assert more == pytest.approx(expected, rel=1e-6)
    near, far = (forecast(plan, RATES, position=at).decode_tokens_per_s for at in (63, 127))
    assert 1 / far - 1 / near == pytest.approx(expected, rel=1e-6)


def test_more_threads_than_were_measured_forecast_no_more_speed(spec):
    two, nine = (forecast(planned(spec, n), RATES).decode_tokens_per_s for n in (2, 9))
    assert nine <= two * 1.01


def test_a_prompt_in_chunks_takes_a_little_longer(spec):
    whole, chunks = (prefill_s(work_of(planned(spec, max_rows=n)), RATES, 512) for n in (512, 64))
    assert whole < chunks < 2 * whole


def test_a_prompt_is_cut_to_the_context(spec):
    expected = forecast(planned(spec, context_tokens=100), RATES, prompt_tokens=512, position=4000)
    assert (expected.prompt_tokens, expected.position) == (99, 99)
    assert expected.time_to_first_token_ns > 1e9 * 99 / expected.prefill_tokens_per_s


def test_the_bottleneck_is_named(spec):
    plan = planned(spec)
    assert forecast(plan, RATES, rows=1).bottleneck in ("memory", "overhead")
    assert forecast(plan, RATES, rows=500, position=0).bottleneck in ("compute", "overhead")


def test_a_forecast_takes_no_longer_than_forty_thousand_rounds_of_a_loop(spec):
    work = planned(spec)
    assert cpu_seconds(lambda: forecast(work, RATES), tries=20) < loop_seconds() * 0.04


def test_what_the_cache_gave_is_taken_out():
    # Nine parts at 50 and one at 100, and then a cached rate that was disturbed.
    mixed = 1 / (0.9 / 50 + 0.1 / 100)
    assert without_cached(mixed, 100, 0.1) == pytest.approx(50)
    assert without_cached(mixed, 1, 0.1) == mixed


def test_rates_round_trip():
    assert Rates.from_json(RATES.to_json()) == RATES


@pytest.mark.parametrize(
    "change",
    [
        {"teams": []},
        {"logit_s": -1},
        {"logit_s": "x"},
        {"isa": ""},
        {"isa": 3},
        {"clock_ops_per_s": 0},
        {"teams": None},
        {"logit_s": 10**400},
    ],
    ids=str,
)
def test_damaged_rates_are_one_sentence(change):
    raw = json.loads(RATES.to_json())
    with pytest.raises(MachineError, match="doctor --measure"):
        Rates.from_json(json.dumps({**raw, **change}))
    with pytest.raises(MachineError):
        Rates.from_json("[" * 100_000)


@pytest.mark.parametrize(("heads", "kv_heads"), [(9, 3), (4, 1), (14, 2), (1, 1), (32, 8)])
@pytest.mark.parametrize("tiles", [1, 3, 8])
@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_passes_of_threads_are_those_of_the_kernel(heads, kv_heads, tiles, threads):
    """Against every unit taken one by one, as the kernel's loop does."""
    shape = Attention(1, heads, kv_heads, 128, 1.0, 0, 48, late=False)
    units = heads * tiles
    expected = []
    for index in range(threads):
        widths = Counter(
            (tile, head // (heads // kv_heads))
            for unit in range(units * index // threads, units * (index + 1) // threads)
            for head, tile in [divmod(unit, tiles)]
        )
        expected.append(Counter(widths.values()))
    assert attend_passes(shape, tiles, threads) == expected


def test_pages_of_a_window_are_those_it_touches():
    shape = Attention(1, 48, 1, 128, 1.0, 0, 48, late=False)
    assert shape.passes(0, 1) == (16, 64)
    assert shape.passes(79, 1) == (80, 128)
    assert shape.passes(62, 4) == (64 + 64 + 80 + 80, 64 + 64 + 128 + 128)
    windowed = Attention(1, 48, 1, 128, 1.0, 100, 48, late=False)
    assert windowed.passes(1000, 1) == (128, 128)  # from 896 on, whole pages
