"""Records beside the standard library's frozen dataclasses of the same fields."""

import copy
import dataclasses
import pickle
from dataclasses import FrozenInstanceError, dataclass, field
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tonnage.core.record import record


def make(decorate, name):
    """Return a class of every kind of field that records are used with."""

    @decorate
    class Point:
        """A point."""

        x: int
        label: str = "p"
        tags: list[str] = field(default_factory=list)
        note: int = field(default=0, compare=False)
        hidden: int = field(default=1, repr=False)
        far: bool = field(default=False, kw_only=True)
        unit: ClassVar[str] = "m"

        def moved(self, by: int) -> "Point":
            return dataclasses.replace(self, x=self.x + by)

    Point.__qualname__ = Point.__name__ = name
    return Point


Ours = make(record, "Point")
Theirs = make(dataclass(frozen=True, slots=True), "Point")


@record
class Base:
    first: int


@record
class Derived(Base):
    second: int = 2

    def __post_init__(self) -> None:
        if self.second < 0:
            raise ValueError("second is negative")


arguments = st.fixed_dictionaries(
    {"x": st.integers(0, 2)},
    optional={
        "label": st.sampled_from(["p", "q"]),
        "tags": st.lists(st.sampled_from(["a", "b"]), max_size=2),
        "note": st.integers(0, 1),
        "hidden": st.integers(0, 1),
        "far": st.booleans(),
    },
)


@given(arguments, arguments)
def test_values_text_and_equality_are_those_of_a_dataclass(a, b):
    assert dataclasses.asdict(Ours(**a)) == dataclasses.asdict(Theirs(**a))
    assert repr(Ours(**a)) == repr(Theirs(**a))
    assert (Ours(**a) == Ours(**b)) == (Theirs(**a) == Theirs(**b))
    assert Ours(**a) != Theirs(**a)


@given(arguments, st.integers(-3, 3))
def test_replacing_and_copying(a, by):
    ours = Ours(**a)
    assert ours.moved(by) == Ours(**{**a, "x": a["x"] + by})
    for made in (copy.copy(ours), copy.deepcopy(ours)):
        assert (made, made.note) == (ours, ours.note)
        assert made is not ours


def test_equal_records_have_equal_hashes_and_pickles_come_back():
    one, same, other = Derived(1), Derived(1, 2), Derived(1, 3)
    assert hash(one) == hash(same)
    assert len({one, same, other}) == 2
    assert pickle.loads(pickle.dumps(other)) == other
    with pytest.raises(TypeError, match="unhashable"):
        hash(Ours(1))  # as its list is


def test_nothing_changes_after_it_was_made():
    point = Ours(1)
    for change in (
        lambda: setattr(point, "x", 2),
        lambda: delattr(point, "x"),
        lambda: setattr(point, "y", 2),
    ):
        with pytest.raises(FrozenInstanceError):
            change()
    assert point.x == 1
    assert not hasattr(point, "__dict__")


def test_default_lists_are_not_shared():
    assert Ours(1).tags is not Ours(1).tags


def test_fields_of_a_base_come_first_and_are_checked_together():
    assert [f.name for f in dataclasses.fields(Derived)] == ["first", "second"]
    assert Derived(1, 5) == Derived(second=5, first=1)
    assert Derived.__match_args__ == ("first", "second")
    with pytest.raises(ValueError, match="second is negative"):
        Derived(1, -1)
    assert Base(1) != Derived(1)


@pytest.mark.parametrize("arguments", [(), (1, 2, 3, 4, 5, 6), (1, 2, 3, 4, 5, 6, 7)])
def test_wrong_numbers_of_arguments_are_refused(arguments):
    for kind in (Ours, Theirs):
        with pytest.raises(TypeError, match="argument"):
            kind(*arguments)
