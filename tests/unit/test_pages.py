"""Tables of pages: nothing that is seen is lost, and no page is held twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.page_tables import BEHIND, PageTable, PageTables
from tonnage.core.plan import KvGroupPlan

ROWS = 20
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("extend"), st.integers(1, ROWS)),
        st.tuples(st.just("back"), st.integers(0, 400)),
    ),
    max_size=60,
)


@given(window=st.integers(1, 200), actions=ACTIONS)
def test_what_a_row_sees_is_there(window: int, actions: list[tuple[str, int]]) -> None:
    own = list(range(100, 100 + -(-(window + ROWS) // 64) + 1))
    group = KvGroupPlan(window, len(own), 1, 0)
    tables = PageTables([group], [own])
    written: dict[int, int] = {}  # page -> index in the table of what it holds
    position = 0
    for name, amount in actions:
        if name == "back":
            wanted = min(amount, position)
            position = tables.go_back_to(wanted)
            assert position in (0, wanted)
            if position == 0 < wanted:
                # Not without need: a page that the row at `wanted` sees holds something else.
                first = max(0, wanted - window + 1) // 64
                seen = range(first, -(-wanted // 64))
                assert any(index not in written.values() for index in seen)
            written = {page: i for page, i in written.items() if 64 * i < position}
            continue
        (table,) = tables.reach(position, amount)
        held = [page for page in table if page != BEHIND]
        assert len(set(held)) == len(held)
        assert set(held) <= set(own)
        first = max(0, position - window + 1) // 64
        for index in range(first, -(-(position + amount) // 64)):
            page = table[index]
            assert page != BEHIND
            # What was computed there before is still that.
            assert 64 * index >= position or written[page] == index
            written[page] = index
        position += amount


def test_a_table_without_a_window_keeps_all() -> None:
    table = PageTable(0, [7, 8, 9])
    table.reach(0, 100)
    table.reach(100, 92)
    assert table.table == [7, 8, 9]
    assert all(table.can_return_to(position) for position in range(193))
    table.cut(64)
    assert table.table == [7]


def test_too_few_pages_are_a_mistake_of_the_caller() -> None:
    table = PageTable(64, [0, 1])
    table.reach(0, 128)
    with pytest.raises(AssertionError, match="too few pages"):
        table.reach(100, 64)
