"""What a process may come to, and the words for whose limit it is."""

import dataclasses

import pytest

from tonnage.core.errors import BudgetError, UnitError
from tonnage.core.hardware import Device, Origin, Tier
from tonnage.core.machine import MemoryLimit
from tonnage.machine.host import read_machine
from tonnage.planner.search.budget import (
    RESERVE_BYTES,
    Budget,
    choose_budget,
    device_budget,
    require_within,
)

GIB = 1 << 30
BOX = dataclasses.replace(
    read_machine(), memory_total_bytes=16 * GIB, memory_available_bytes=4 * GIB, memory_limits=()
)
GROUP = MemoryLimit("cgroup v1 memory.limit_in_bytes of /x", 2 * GIB, GIB)
ADDRESSES = MemoryLimit("RLIMIT_AS", 3 * GIB, 0)
RAM = Tier("ddr", "memory", Origin(), capacity_bytes=8 * GIB)


def test_available_memory_less_the_reserve_and_what_is_held() -> None:
    budget = choose_budget(BOX, None, 5)
    assert budget.num_bytes == 5 + 4 * GIB - RESERVE_BYTES
    assert "less 256.0 MiB for others" in budget.origin


def test_the_tightest_limit_counts_and_is_named() -> None:
    limited = dataclasses.replace(BOX, memory_limits=(GROUP, ADDRESSES))
    budget = choose_budget(limited, None, 7)
    assert budget.num_bytes == 7 + GIB
    assert GROUP.source in budget.origin
    tight = dataclasses.replace(limited, memory_available_bytes=GIB)
    assert choose_budget(tight, None, 0).num_bytes == GIB - RESERVE_BYTES
    none_left = dataclasses.replace(BOX, memory_available_bytes=1)
    assert choose_budget(none_left, None, 9).num_bytes == 9


def test_what_is_held_never_lifts_a_budget_above_what_there_is() -> None:
    for held in (13 * GIB, 20 * GIB):
        budget = choose_budget(BOX, None, held)
        assert budget.num_bytes == 16 * GIB - RESERVE_BYTES
        assert "what this machine has, less 256.0 MiB for others" in budget.origin
    unknown = dataclasses.replace(BOX, memory_total_bytes=0)
    assert choose_budget(unknown, None, 20 * GIB).num_bytes == 24 * GIB - RESERVE_BYTES


def test_a_plan_may_take_the_whole_budget_and_no_byte_more() -> None:
    budget = Budget(700 << 20, "were allowed")
    require_within(700 << 20, budget)
    sentence = r"takes 700\.0 MiB .* 700\.0 MiB were allowed, 1 B short; allow --memory 701MiB"
    with pytest.raises(BudgetError, match=sentence):
        require_within((700 << 20) + 1, budget)
    with pytest.raises(BudgetError, match=r"100\.0 MiB short; allow --memory 800MiB,"):
        require_within(800 << 20, budget)


def test_a_stated_budget_is_taken_up_to_the_limits() -> None:
    limited = dataclasses.replace(BOX, memory_limits=(GROUP, ADDRESSES))
    assert choose_budget(limited, "2GiB", 0).num_bytes == 2 * GIB
    assert choose_budget(BOX, 16 * GIB, 0) == Budget(16 * GIB, "were allowed")
    assert choose_budget(BOX, 1, 0).num_bytes == 1
    unknown = dataclasses.replace(BOX, memory_total_bytes=0)
    assert choose_budget(unknown, "17GiB", 0).num_bytes == 17 * GIB
    with pytest.raises(BudgetError, match=r"limit_in_bytes of /x ends at 2\.0 GiB"):
        choose_budget(limited, "2049MiB", 0)
    with pytest.raises(BudgetError, match=r"this machine.s memory ends at 16\.0 GiB"):
        choose_budget(BOX, "17GiB", 0)


@pytest.mark.parametrize("memory", [0, -1, True, 1.5, "", "lots", "-1", "0.5", "9" * 400])
def test_what_states_no_bytes_is_a_sentence(memory) -> None:
    for take in (lambda m: choose_budget(BOX, m, 0), lambda m: device_budget(device(RAM), m)):
        with pytest.raises(UnitError, match=r"MiB|GiB") as caught:
            take(memory)
        assert len(str(caught.value)) < 200


def device(*tiers: Tier) -> Device:
    return Device("box", "A box", "cpu", tiers)


def test_a_device_allows_what_its_largest_tier_holds() -> None:
    sram = Tier("sram", "memory", Origin(), capacity_bytes=GIB)
    whole = Budget(8 * GIB, "are what ddr of box holds")
    assert device_budget(device(sram, RAM), None) == whole
    assert device_budget(device(sram, RAM), "1GiB") == Budget(GIB, "were allowed")
    assert device_budget(device(sram, RAM), 8 * GIB).num_bytes == 8 * GIB
    cache = Tier("l4", "cache", Origin(), capacity_bytes=16 * GIB)
    assert device_budget(device(cache, RAM), None) == whole
    with pytest.raises(BudgetError, match=r"ddr of box holds 8\.0 GiB"):
        device_budget(device(sram, RAM), "9GiB")
    unknown = dataclasses.replace(RAM, capacity_bytes=None)
    budget = device_budget(device(unknown), None)
    assert budget.num_bytes > 1 << 40
    assert "no capacity of box is known" in budget.origin
