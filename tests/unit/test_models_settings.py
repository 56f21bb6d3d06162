"""Single settings: their limits, and what a refusal says is needed."""

import sys

import pytest

from tonnage.core.errors import UnsupportedModelError
from tonnage.models.settings import Settings


def of(value: object) -> Settings:
    return Settings({"x": value}, {})


def test_limits_are_inside() -> None:
    assert of(1).count("x") == 1
    assert of(sys.float_info.max).number("x") == sys.float_info.max
    assert of(5e-324).number("x") == 5e-324
    assert of(2.5).number("x", least=2.5) == 2.5


@pytest.mark.parametrize("value", [0, 0.0, -1.0, True, "1"])
def test_a_number_must_be_above_zero(value: object) -> None:
    with pytest.raises(UnsupportedModelError, match="must be a finite number above 0"):
        of(value).number("x")


def test_a_refusal_says_what_is_needed() -> None:
    with pytest.raises(UnsupportedModelError, match="must be true or false"):
        of("yes").flag("x")
    with pytest.raises(UnsupportedModelError, match="must be one of a, b"):
        of("c").choice("x", {"b", "a"})
    with pytest.raises(UnsupportedModelError, match="must be whole numbers from 1 to"):
        of([0, 1]).counts("x", 2)
    with pytest.raises(UnsupportedModelError, match="must be a finite number of at least 2"):
        of(1).number("x", least=2.0)


@pytest.mark.parametrize(("length", "shown"), [(78, "y" * 78), (79, "y" * 76 + "...")])
def test_long_values_are_cut_to_80_characters(length: int, shown: str) -> None:
    """The quote at each end counts; the closing one is cut off with the rest."""
    with pytest.raises(UnsupportedModelError) as caught:
        of("y" * length).number("x")
    assert f"'{shown}" in str(caught.value)
    assert "y" * (len(shown.rstrip(".")) + 1) not in str(caught.value)
