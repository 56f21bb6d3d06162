"""Frequencies of rotary embeddings: by hand, and as transformers 5.24 gives them."""

import math
from dataclasses import astuple

import pytest

from oracles import rope
from tonnage.core.rope import DynamicNtk, LongRope, RopeSpec, Yarn

FLOAT32 = 2.0**-23

# transformers.modeling_rope_utils.ROPE_INIT_FUNCTIONS["llama3"], float32, of Llama 3.2 1B's
# config.json: heads of 64, base 500,000, (factor, low, high, original context) as here.
LLAMA_3_2 = (32.0, 1.0, 4.0, 8192)
LLAMA_3_2_FREQUENCIES = (
    1.0, 0.663601279, 0.440366626, 0.292227834, 0.193922758, 0.128687382, 0.0853971019,
    0.0566696189, 0.0376060307, 0.0249554086, 0.0165604409, 0.0109895291, 0.00729266508,
    0.00483942125, 0.00321144611, 0.00129054801, 0.000429556705, 9.70828623e-05, 1.94616387e-05,
    1.29147675e-05, 8.57025589e-06, 5.68723226e-06, 3.77405445e-06, 2.50446715e-06,
    1.66196742e-06, 1.10288363e-06, 7.31874934e-07, 4.85673127e-07, 3.22293289e-07, 2.1387423e-07,
    1.41927202e-07, 9.41830649e-08,
)  # fmt: skip
# The same of Llama 3.1 8B: heads of 128, and the blended pairs with one on either side.
LLAMA_3_1 = (8.0, 1.0, 4.0, 8192)
LLAMA_3_1_BLENDED = (
    0.00321144611, 0.00216657063, 0.00137189368, 0.00085675146, 0.000524846022, 0.00031269365,
    0.000178507791, 9.55621217e-05, 7.78465546e-05,
)  # fmt: skip
FIRST_BLENDED = 28


def oracle(spec: RopeSpec) -> tuple[float, ...]:
    found = rope.inverse_frequencies(
        spec.dim,
        spec.base,
        linear=spec.factor,
        llama3=None if spec.llama3 is None else rope.Llama3(*spec.llama3),
        yarn=None if not isinstance(spec.scaling, Yarn) else rope.Yarn(*astuple(spec.scaling)),
    )
    return tuple(found.tolist())


@pytest.fixture(params=["product", "oracle"])
def frequencies(request: pytest.FixtureRequest):
    """Both take the same examples."""
    return RopeSpec.inverse_frequencies if request.param == "product" else oracle


def test_plain_frequencies_are_powers_of_the_base(frequencies) -> None:
    found = frequencies(RopeSpec(8, 10_000.0))
    assert found == pytest.approx((1.0, 0.1, 0.01, 0.001), rel=8 * 2.0**-53)


def test_linear_scaling_divides_positions(frequencies) -> None:
    found = frequencies(RopeSpec(4, 100.0, factor=4.0))
    assert found == pytest.approx((0.25, 0.025), rel=8 * 2.0**-53)


def test_llama3_keeps_short_wavelengths_and_stretches_long_ones(frequencies) -> None:
    """Base (2 pi)^2 and two pairs give wavelengths of 2 pi and of 4 pi^2 = 39.48 positions.

    Of an original context of 30 with low factor 1 and high factor 4, wavelengths below 7.5 stay
    and those above 30 become 8 times as long.
    """
    spec = RopeSpec(4, (2 * math.pi) ** 2, llama3=(8.0, 1.0, 4.0, 30))
    expected = (1.0, 1 / (2 * math.pi) / 8)
    assert frequencies(spec) == pytest.approx(expected, rel=8 * 2.0**-53)


def test_llama3_blends_between(frequencies) -> None:
    """A wavelength of 2 pi in an original context of 4 pi turns twice.

    Between 1 and 4 turns, 2 are one third of the way from stretched to kept.
    """
    spec = RopeSpec(2, 7.0, llama3=(8.0, 1.0, 4.0, 4 * math.pi))  # type: ignore[arg-type]
    expected = 1 / 3 + (2 / 3) / 8
    assert frequencies(spec) == pytest.approx((expected,), rel=8 * 2.0**-53)


def test_llama3_of_real_models_is_what_transformers_takes(frequencies) -> None:
    found = frequencies(RopeSpec(64, 500_000.0, llama3=LLAMA_3_2))
    # Float32 powers, divisions and a blend: a few roundings each.
    assert found == pytest.approx(LLAMA_3_2_FREQUENCIES, rel=8 * FLOAT32)
    found = frequencies(RopeSpec(128, 500_000.0, llama3=LLAMA_3_1))[FIRST_BLENDED:]
    blended = found[: len(LLAMA_3_1_BLENDED)]
    assert blended == pytest.approx(LLAMA_3_1_BLENDED, rel=8 * FLOAT32)


def test_yarn_keeps_fast_pairs_and_slows_slow_ones(frequencies) -> None:
    """Base 2^32 and 32 pairs: each pair turns half as fast as the one before.

    In an original context of 2 pi 4096, pair i turns 4096 / 2^i times: 32 times at pair 7 and once
    at pair 12. Pair 8 is a fifth of the way from kept to slowed, and so on.
    """
    scaling = Yarn(4.0, 2 * math.pi * 4096)  # type: ignore[arg-type]
    found = frequencies(RopeSpec(64, 2.0**32, scaling=scaling))
    slowed = [0.0] * 8 + [0.2, 0.4, 0.6, 0.8] + [1.0] * 20
    expected = [2.0**-i * (1 - share + share / 4) for i, share in enumerate(slowed)]
    assert found == pytest.approx(expected, rel=1e-9)


def test_borders_of_yarn_are_whole_pairs_unless_said_otherwise(frequencies) -> None:
    """As above, but 23 turns lie between pairs 7 and 8, and 1.5 between 11 and 12."""
    original = 2 * math.pi * 4096
    whole = frequencies(
        RopeSpec(64, 2.0**32, scaling=Yarn(4.0, original, 23.0, 1.5))  # type: ignore[arg-type]
    )
    parts = frequencies(
        RopeSpec(64, 2.0**32, scaling=Yarn(4.0, original, 23.0, 1.5, False))  # type: ignore[arg-type]
    )
    first, last = math.log2(4096 / 23), math.log2(4096 / 1.5)
    share = (9 - first) / (last - first)
    assert whole[9] == pytest.approx(2.0**-9 * (0.6 + 0.4 / 4), rel=1e-9)
    assert parts[9] == pytest.approx(2.0**-9 * (1 - share + share / 4), rel=1e-9)


def test_yarn_of_a_short_context_slows_all(frequencies) -> None:
    found = frequencies(RopeSpec(8, 10_000.0, scaling=Yarn(4.0, 2)))
    # The borders fall together before the first pair.
    assert found[1:] == pytest.approx((0.025, 0.0025, 0.00025), rel=8 * 2.0**-53)


def test_factors_of_long_contexts_are_those_of_the_plan() -> None:
    spec = RopeSpec(4, 100.0, scaling=LongRope(64, (1.0, 2.0), (4.0, 5.0)))
    short = spec.for_context(64).inverse_frequencies()
    assert short == pytest.approx((1.0, 0.05), rel=8 * 2.0**-53)
    long = spec.for_context(65).inverse_frequencies()
    assert long == pytest.approx((0.25, 0.02), rel=8 * 2.0**-53)
    assert [spec.for_context(context).rule for context in (64, 65)] == [
        "the short factors, which change beyond a context of 64",
        "the long factors, which change beyond a context of 64",
    ]


def test_a_growing_base_is_that_of_the_plans_context() -> None:
    """Twice the context and factor 4: five times the base to the power of 8 / 6."""
    spec = RopeSpec(8, 10_000.0, scaling=DynamicNtk(4.0, 512))
    assert spec.for_context(512) == spec.for_context(100) == RopeSpec(8, 10_000.0)
    assert spec.for_context(1024).base == pytest.approx(10_000 * 5 ** (4 / 3), rel=1e-12)
    assert rope.grown_base(8, 10_000.0, 4.0, 512, 1024) == pytest.approx(10_000 * 5 ** (4 / 3))
    assert rope.grown_base(8, 10_000.0, 4.0, 512, 100) == 10_000
    assert spec.for_context(1024).rule == "base 85,499, which grows beyond a context of 512"


def test_only_the_first_pairs_turn() -> None:
    found = RopeSpec(8, 10_000.0, rotated_pairs=2).inverse_frequencies()
    assert found == pytest.approx((1.0, 0.1, 0.0, 0.0), rel=8 * 2.0**-53)
