"""How many drafts a controller asks for."""

from tonnage.speculation.controller import Controller


def test_where_rows_cost_nothing_it_takes_all() -> None:
    assert Controller().num_drafts([1.0, 1.0, 1.0, 1.0]) == 3


def test_where_rows_cost_as_much_as_steps_it_takes_none() -> None:
    assert Controller().num_drafts([1.0, 2.0, 3.0]) == 0


def test_at_half_right_it_stops_where_a_draft_costs_more_than_it_brings() -> None:
    # 1, 1.5, 1.75 and 1.875 tokens at these times: 1, 1.36, 1.46 and 1.25 per unit of time.
    assert Controller().num_drafts([1.0, 1.1, 1.2, 1.5]) == 2


def test_no_row_to_spare_is_no_draft() -> None:
    assert Controller().num_drafts([1.0]) == 0


def test_right_drafts_make_more_of_them_pay_and_wrong_ones_none() -> None:
    times = [1.0 + 0.2 * count for count in range(8)]
    right, wrong = Controller(), Controller()
    for _ in range(50):
        right.note(3, 3)
        wrong.note(3, 0)
    assert right.num_drafts(times) == 7
    assert wrong.num_drafts(times) == 0


def test_drafts_behind_a_wrong_one_are_not_judged() -> None:
    one, many = Controller(), Controller()
    one.note(2, 1)
    many.note(7, 1)
    assert one.acceptance == many.acceptance
    before = one.acceptance
    one.note(0, 0)
    assert one.acceptance == before


def test_trials_take_at_most_a_hundredth_of_the_time() -> None:
    controller = Controller()
    for _ in range(100):
        controller.note(1, 0)
    trials = sum(controller.num_drafts([1.0, 1.5]) for _ in range(10_000))
    assert 190 <= trials <= 200  # 0.5 each, of 10,000
    for _ in range(100):
        controller.note(1, 1)
    assert controller.num_drafts([1.0, 1.5]) == 1
