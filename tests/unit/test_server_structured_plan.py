"""Unless told otherwise, structured output is planned for where it costs shared pages alone."""

from types import SimpleNamespace

import pytest

from tonnage.core.errors import BudgetError, RequestError
from tonnage.engine.build import ServingOptions
from tonnage.server import structured_plan
from tonnage.server.structured_plan import with_tables


def planned(context: int = 4096, format_: str = "Q4_1", kv: str = "f16", **place: bool) -> object:
    """Return a set of one model, as far as it is looked at."""
    plan = SimpleNamespace(
        matrices=[SimpleNamespace(name="head", format=format_)],
        context_tokens=context,
        kv=SimpleNamespace(format=kv),
        max_rows=64,
    )
    model = SimpleNamespace(plan=plan, co_resident=place.get("co_resident", True))
    return SimpleNamespace(models=(model,), start="before")


def chosen(wanted: str, on: object, off: object) -> tuple[object, list[object]]:
    """Return what is chosen of two sets, and what each plan was told of the process."""
    starts: list[object] = []

    def plan(serving: ServingOptions, start: object) -> object:
        starts.append(start)
        found = on if serving.with_structured_output else off
        if isinstance(found, Exception):
            raise found
        return found

    return with_tables(plan, ServingOptions(), wanted), starts


def test_what_is_stated_is_planned_alone():
    on, off = planned(), planned()
    assert chosen("on", on, off) == (on, [None])
    assert chosen("off", on, off) == (off, [None])


def test_tables_are_planned_where_they_cost_nothing_else():
    on, off = planned(), planned()
    assert chosen("auto", on, off) == (on, [None, "before"])


@pytest.mark.parametrize(
    "on",
    [
        planned(context=2048),
        planned(format_="Q4_0"),
        planned(kv="int8"),
        planned(co_resident=False),
        BudgetError("too much"),
    ],
)
def test_they_are_not_where_they_cost_more(on):
    off = planned()
    assert chosen("auto", on, off)[0] is off


def test_the_library_is_asked_for_by_name_where_it_is_needed(monkeypatch):
    monkeypatch.setattr(structured_plan, "find_spec", lambda name: None)
    on, off = planned(), planned()
    assert chosen("auto", on, off) == (off, [None])
    with pytest.raises(RequestError, match=r"needs llguidance; install it with .*tonnage\[serve\]"):
        chosen("on", on, off)


def test_a_word_that_is_none_of_the_three_is_refused():
    with pytest.raises(RequestError, match="'yes'; it takes auto or on or off"):
        chosen("yes", planned(), planned())
