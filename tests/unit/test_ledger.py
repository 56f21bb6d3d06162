"""Resident pages of an arena, and the ledger's sums."""

import pytest

from tonnage._native import Arena
from tonnage.backends.cpu import resident as residency
from tonnage.core.footprint import TextFacts, interpreter_bytes, sampler_bytes, text_facts
from tonnage.core.ledger import Entry, Ledger, ProcessLedger

MIB = 1 << 20


def test_only_what_was_touched_is_resident() -> None:
    arenas = [Arena(8 * MIB + 12345, huge_pages=False) for _ in range(3)]
    assert len({arena.address for arena in arenas}) == 3
    for arena in arenas:
        address = arena.address
        assert residency.resident_bytes(address, 4 * MIB) == 0
        arena.write(MIB, b"x" * MIB)
        assert residency.resident_bytes(address, 4 * MIB) == MIB
        assert residency.resident_bytes(address + MIB, 1) == 4096
        assert residency.resident_bytes(address, arena.num_bytes) == MIB


def test_a_system_that_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*_: object, **__: object) -> None:
        raise PermissionError(13, "no")

    monkeypatch.setattr("builtins.open", closed)
    assert residency.resident_bytes(1 << 20, MIB) is None


def test_what_no_item_explains_is_unaccounted() -> None:
    items = (
        Entry("weights", "weight", 100, 90, 95, "pages"),
        Entry("tokenizer", "host", 20, 10, 10, "owner"),
    )
    ledger = Ledger(items, budget_bytes=200, rss_bytes=130, peak_rss_bytes=140)
    assert (ledger.total_bytes, ledger.unaccounted_bytes) == (120, 30)
    told = ledger.to_dict()
    assert told["items"][0]["peak_bytes"] == 95
    assert (told["total_bytes"], told["unaccounted_bytes"]) == (120, 30)


def test_constants_grow_with_what_they_stand_for() -> None:
    plain, chatting = TextFacts(10, 0, 10), text_facts(10)
    assert interpreter_bytes(0, plain) == interpreter_bytes(23 * MIB, plain) == 24 * MIB
    assert interpreter_bytes(100 * MIB, plain) == 101 * MIB
    assert interpreter_bytes(100 * MIB, chatting) == 102 * MIB
    assert sampler_bytes(1024) == 2 * 8 * 1024
    assert sampler_bytes(1025) == 2 * 8 * 2048


class Held:
    """An engine that only states what it takes."""

    def __init__(self, planned_bytes: int, held_bytes: int) -> None:
        self.planned_bytes, self.held_bytes = planned_bytes, held_bytes


def test_a_process_knows_its_open_engines_and_no_other_process_does() -> None:
    process, another = ProcessLedger(), ProcessLedger()
    one, two, dropped = Held(100, 10), Held(200, 20), Held(400, 40)
    for engine in (one, two, dropped):
        process.enter(engine)
    del dropped, engine
    assert another.beside() is None
    entry = process.beside()
    assert entry is not None
    assert (entry.planned_bytes, entry.now_bytes, entry.peak_bytes) == (300, 30, 30)
    entry = process.beside(one)
    assert entry is not None
    assert (entry.name, entry.planned_bytes, entry.now_bytes) == ("other engines", 200, 20)
    for _ in range(2):
        process.leave(two)
    assert process.beside(one) is None
