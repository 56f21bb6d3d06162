"""Ids that a model's files name: what is no id is refused, what is never met is left out."""

import logging
from typing import Any

import pytest

from tonnage.core.errors import TokenizerError
from tonnage.text.special import Special, require_ids

ALL = Special(prefix=(1, 12), suffix=(2, 9, 10), bos_id=1, end_ids=frozenset([2, 7, 8, 11]))


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records]


def test_ids_that_are_never_met_are_left_out_and_named(caplog: pytest.LogCaptureFixture) -> None:
    """Ten ids, of which eight have rows: an end at 8 is a token that cannot be drawn."""
    with caplog.at_level(logging.WARNING, "tonnage.text"):
        found = ALL.within(10, 8)
    assert (found.prefix, found.suffix, found.bos_id) == ((1,), (2, 9), 1)
    assert found.end_ids == {2, 7}
    words = "A special token has the id {}, which a vocabulary of 8 never holds; it is left out."
    assert warned(caplog) == [words.format(number) for number in (8, 10, 11, 12)]


def test_an_id_that_is_of_use_elsewhere_is_not_named(caplog: pytest.LogCaptureFixture) -> None:
    special = Special(suffix=(9,), end_ids=frozenset([9]))
    with caplog.at_level(logging.WARNING, "tonnage.text"):
        found = special.within(10, 8)
    assert (found.suffix, found.end_ids, found.bos_id) == ((9,), frozenset(), None)
    assert warned(caplog) == []


def test_a_begin_beyond_all_ids_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "tonnage.text"):
        found = Special(bos_id=10, names={"bos_token": "<s>"}).within(10, 1_234)
    assert (found.bos_id, found.names) == (None, {"bos_token": "<s>"})
    (line,) = warned(caplog)
    assert "the id 10," in line
    assert "1,234" in line


@pytest.mark.parametrize("value", [-1, 1 << 31, True, 1.0, "1", None, [1]])
def test_what_is_no_id_is_refused_by_its_field(value: Any) -> None:
    with pytest.raises(TokenizerError) as caught:
        require_ids([0, value], "eos_token_id")
    assert str(caught.value) == f"'eos_token_id' holds {value!r}, which is no token id."


def test_long_values_are_cut() -> None:
    with pytest.raises(TokenizerError) as caught:
        require_ids(["x" * 500], "ids")
    assert len(str(caught.value)) < 120


def test_the_smallest_and_the_largest_id_are_ids() -> None:
    assert require_ids([0, (1 << 31) - 1], "ids") == [0, (1 << 31) - 1]
