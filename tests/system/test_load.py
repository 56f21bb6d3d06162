"""What must hold after minutes of load: twice as many clients as fit, a grid of budgets.

The loads themselves have run beside the other tests; support/loads.py says what and how long,
tests/conftest.py when. TONNAGE_LOAD_SECONDS is how long the real model is loaded.
"""

import json
from typing import Any

import pytest

from support.loads import TINY_SECONDS
from support.random_load import PAGE_BYTES


def check(told: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """Print what happened and assert what must hold under any load."""
    mib = [num_bytes / (1 << 20) for num_bytes in told["most_rss_bytes"]]
    with capsys.disabled():
        print(
            f"\n  {told['outcomes']}, pressure {told['pressure']}, {told['num_disk_hits']} pages "
            f"from disk; first token (median, 95 %, most) {told['first_token_s']} s, longest gap "
            f"{told['longest_gap_s']} s; MiB {' '.join(f'{one:.1f}' for one in mib)} of "
            f"{told['planned_bytes'] / (1 << 20):.1f}, then {told['shrunk_bytes'] / (1 << 20):.1f}",
            end="",
        )
    assert told["num_left"] == told["num_used_pages"] == 0
    assert max(told["most_rss_bytes"]) <= told["planned_bytes"]
    # What was given up is no longer resident, but for the system's pages at both ends of a page.
    ends = 2 * told["num_given_up"] * PAGE_BYTES
    assert max(told["most_rss_bytes"][-2:]) <= told["left_bytes"] + ends
    rest = told["kv_planned_bytes"] - told["kv_bytes"] + ends
    assert told["kv_now_bytes"] <= told["kv_allowed_bytes"] + rest
    assert told["num_given_up"] > 0
    assert told["num_same"] == told["num_samples"]
    assert told["outcomes"]["OverloadError"] > 0
    assert told["outcomes"]["given up"] > 0


@pytest.mark.load("tiny")
def test_twice_the_load_and_a_shrinking_budget(
    told: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    check(told, capsys)
    assert told["left_bytes"] <= told["shrunk_bytes"]
    assert told["outcomes"]["length"] > TINY_SECONDS
    assert told["num_samples"] > 0


@pytest.mark.slow
@pytest.mark.load("real")
def test_twice_the_load_of_a_real_model(
    told: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    check(told, capsys)
    assert told["left_bytes"] <= told["shrunk_bytes"]


@pytest.mark.load("limit")
def test_a_limit_that_shrinks_preempts_and_refuses(
    told: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """The kernel's limit, of which the engine is told nothing: it takes most of the pages.

    When it is raised again, all pages are back.
    """
    assert (told["returncode"], told["num_oom_kills"]) == (0, 0), told["stderr"][-1000:]
    told = json.loads(told["stdout"])
    check(told, capsys)
    # As low as the group could be made: what it cannot give in files comes beside them.
    assert 0 < told["kv_allowed_bytes"] < told["kv_bytes"] * 3 / 4
    assert told["kv_raised_bytes"] == told["kv_bytes"]
    # The batch shrinks as well where few enough are left, and only where none is free or cold.
    assert all(told["pressure"][level] for level in ("evict", "store", "preempt", "refuse"))
    words = [word for word, _ in told["said"]]
    assert "Request" in words[words.index("KV") :]
    assert all(available == 0 for word, available in told["said"] if word == "Pages")


@pytest.mark.slow
@pytest.mark.guarantee
@pytest.mark.load("grid")
def test_accepted_plans_of_a_real_model_hold_their_budget(
    told: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """The grid of `test_guarantee.py`, with three minutes of mixed load in all."""
    with capsys.disabled():
        print("".join(f"\n  {line}" for line in told["lines"]), end="")
    assert len(told["lines"]) > 0
