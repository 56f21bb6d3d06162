"""Laws of the reference codec that hold for all inputs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tonnage.core import block_format as bf
from tonnage.formats.codec import dequantize, quantize, random_blocks

formats = st.sampled_from(bf.ALL_FORMATS)
# Half of the smallest float16: what rounding a scale to a subnormal float16 may cost.
HALF_TINY = 2.0**-25
EPS16, EPS32 = 2.0**-11, 2.0**-24


@settings(max_examples=100, deadline=None)
@given(formats, st.integers(1, 6), st.integers(1, 4), st.integers(0, 1 << 32), st.data())
def test_blocks_are_independent(fmt, rows, blocks_per_row, seed, data):
    shape = (rows, blocks_per_row * fmt.block_elems)
    raw = random_blocks(fmt, shape, np.random.default_rng(seed))
    values = dequantize(fmt, raw, shape).reshape(-1, fmt.block_elems)
    chosen = data.draw(st.integers(0, len(values) - 1))
    one = raw[chosen * fmt.block_bytes : (chosen + 1) * fmt.block_bytes]
    assert np.array_equal(dequantize(fmt, one, (fmt.block_elems,)), values[chosen])


@settings(max_examples=60, deadline=None)
@given(formats, st.integers(0, 1 << 32))
def test_random_blocks_are_finite_and_small(fmt, seed):
    shape = (2, 2 * fmt.block_elems)
    values = dequantize(fmt, random_blocks(fmt, shape, np.random.default_rng(seed)), shape)
    assert np.isfinite(values).all()
    assert np.abs(values).max() < 3.0


MAGNITUDE = {"Q8_0": 127, "Q4_0": 8, "Q4_1": 15}


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([bf.Q8_0, bf.Q4_0, bf.Q4_1]),
    hnp.arrays(np.float32, (2, 64), elements=st.floats(-1e4, 1e4, width=32)),
)
def test_quantizing_errs_by_half_a_step_and_the_rounded_header(fmt, values):
    stored = quantize(fmt, values)
    assert len(stored) == fmt.nbytes(values.shape)
    back = dequantize(fmt, stored, values.shape).astype(np.float64).reshape(-1, 32)
    exact = values.astype(np.float64).reshape(-1, 32)
    low, high = exact.min(axis=1, keepdims=True), exact.max(axis=1, keepdims=True)
    peak = np.abs(exact).max(axis=1, keepdims=True)
    step = {"Q8_0": peak / 127, "Q4_0": peak / 8, "Q4_1": (high - low) / 15}[fmt.name]
    # Q4_0 has 7 steps on one side and 8 on the other: the far end is clipped by up to one step.
    rounding = step * (1.0 if fmt is bf.Q4_0 else 0.5)
    header = MAGNITUDE[fmt.name] * (step * EPS16 + HALF_TINY)
    offset = np.abs(low) * EPS16 + HALF_TINY if fmt is bf.Q4_1 else 0.0
    arithmetic = 8 * EPS32 * (peak + MAGNITUDE[fmt.name] * step)
    assert (np.abs(back - exact) <= rounding + header + offset + arithmetic).all()


@settings(max_examples=100, deadline=None)
@given(hnp.arrays(np.float32, (3, 8), elements=st.floats(width=32, allow_nan=False)))
@pytest.mark.parametrize("fmt", [bf.F32, bf.F16, bf.BF16], ids=lambda fmt: fmt.name)
def test_floats_round_to_nearest_and_then_stay(fmt, values):
    limit = {"F32": np.inf, "F16": 65504.0, "BF16": 3.38e38}[fmt.name]
    values = np.where(np.isfinite(values), values, 1).clip(-limit, limit).astype(np.float32)
    once = dequantize(fmt, quantize(fmt, values), values.shape)
    assert np.array_equal(dequantize(fmt, quantize(fmt, once), values.shape), once)
    if fmt is bf.F32:
        assert np.array_equal(once, values)
    relative, tiny = {"F32": (0, 0), "F16": (2.0**-11, 2.0**-25), "BF16": (2.0**-8, 2.0**-134)}[
        fmt.name
    ]
    wide = values.astype(np.float64)
    assert (np.abs(once - wide) <= relative * np.abs(wide) + tiny).all()
