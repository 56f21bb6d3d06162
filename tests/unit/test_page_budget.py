"""What pages may take when the limits of the process and the user's word change, in an engine."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, perf_counter_ns, sleep

import pytest

from support.checkpoints import tiny_config, tiny_model, write_gguf
from tonnage.core.errors import BudgetError
from tonnage.core.machine import MachineLimits
from tonnage.engine import engine as engine_module
from tonnage.engine.engine import Engine
from tonnage.engine.limit_watch import GROW_AFTER_NS, LOOK_EVERY_NS

MIB = 1 << 20
AMPLE = 1 << 40


@dataclass
class Group:
    """A made-up cgroup: what it says, and the clock of the steps."""

    limits: MachineLimits
    now_ns: int = 0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = tiny_config("llama", num_key_value_heads=4, max_position_embeddings=1 << 12)
    return write_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf", tiny_model(config, seed=1))


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> Group:
    group = Group(MachineLimits({"group": AMPLE}, AMPLE, AMPLE))
    monkeypatch.setattr(engine_module, "read_limits", lambda: group.limits)
    return group


@pytest.fixture
def engine(model: Path, group: Group) -> Iterator[Engine]:
    with Engine.open(str(model), context=4096, concurrency=4, threads=1) as engine:
        yield engine


def look(engine: Engine, group: Group, after_ns: int = LOOK_EVERY_NS) -> int:
    """Return the bytes of pages after the next two looks at the limits."""
    for pause_ns in (after_ns, LOOK_EVERY_NS):
        group.now_ns = max(group.now_ns, perf_counter_ns()) + pause_ns
        engine._pages(group.now_ns)
    return page_bytes(engine)


def page_bytes(engine: Engine) -> int:
    return engine._serving.loop.scheduler.cache.total_bytes


def rest_bytes(engine: Engine) -> int:
    return engine._pages._rest_bytes()


def test_pages_go_to_what_the_plan_leaves_of_a_lower_limit_and_come_back(
    engine: Engine, group: Group
) -> None:
    full = engine.plan.kv.nbytes
    assert look(engine, group) == full
    group.limits = MachineLimits({"group": 1}, AMPLE, rest_bytes(engine) + full // 3)
    assert full // 4 < look(engine, group) <= full // 3
    group.limits = MachineLimits({"group": 2}, AMPLE, rest_bytes(engine) - 1)
    assert look(engine, group) == 0
    group.limits = MachineLimits({"group": 3}, AMPLE, AMPLE)
    assert look(engine, group) == full


def test_pages_that_are_there_count_as_theirs(engine: Engine, group: Group) -> None:
    """Nothing is free, and that is no reason to give up what fits already."""
    full = engine.plan.kv.nbytes
    for _ in range(4):
        engine.generate([1] * 3000, max_tokens=1000, ignore_eos=True).complete()
    held = engine._pages._held_bytes()
    assert 0 < held < full
    group.limits = MachineLimits({"group": AMPLE}, full - held, 0)
    assert look(engine, group) == full
    group.limits = MachineLimits({"group": AMPLE}, (full - held) // 2, 0)
    now = look(engine, group)
    assert held // 2 < now <= held + (full - held) // 2


def test_what_neighbours_leave_comes_back(engine: Engine, group: Group) -> None:
    full = engine.plan.kv.nbytes
    group.limits = MachineLimits({"group": AMPLE}, full // 2, 0)
    assert 0 < look(engine, group) < full // 2
    group.limits = MachineLimits({"group": AMPLE}, AMPLE, AMPLE)
    assert look(engine, group) < full // 2
    assert look(engine, group, GROW_AFTER_NS) == full


def test_the_lower_of_word_and_limit_counts(engine: Engine, group: Group) -> None:
    full = engine.plan.kv.nbytes
    engine.set_budget(rest_bytes(engine) + full // 2)
    half = page_bytes(engine)
    assert 0 < half <= full // 2
    group.limits = MachineLimits({"group": 1}, AMPLE, rest_bytes(engine) + full // 4)
    quarter = look(engine, group)
    assert 0 < quarter <= full // 4
    engine.set_budget(AMPLE)
    assert page_bytes(engine) == quarter
    engine.set_budget(rest_bytes(engine) + full // 2)
    group.limits = MachineLimits({"group": 2}, AMPLE, AMPLE)
    assert look(engine, group) == half
    with pytest.raises(BudgetError, match="are taken by all but KV pages"):
        engine.set_budget(rest_bytes(engine))


def test_pages_that_start_over_are_no_more_than_before(engine: Engine) -> None:
    full = engine.plan.kv.nbytes
    engine.set_budget(rest_bytes(engine) + full // 2)
    half = page_bytes(engine)
    engine.generate([1] * 500, max_tokens=2).complete()
    engine._serving.loop._start_over()
    assert page_bytes(engine) == half < full
    held = engine.runtime.resident_page_bytes()
    assert held is not None
    assert held <= half


def test_where_nothing_tells_what_is_there_the_limit_alone_counts(
    engine: Engine, group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tonnage.backends.cpu.runtime.resident_bytes", lambda *args: None)
    full = engine.plan.kv.nbytes
    group.limits = MachineLimits({"group": AMPLE}, 0, 0)
    assert look(engine, group) == full
    group.limits = MachineLimits({"group": AMPLE}, -full // 4, 0)
    assert 0 < look(engine, group) < full


def test_a_server_that_waits_for_requests_looks_too(
    engine: Engine, group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tonnage.engine.step_loop._IDLE_LOOK_S", 0.01)
    monkeypatch.setattr("tonnage.engine.limit_watch.LOOK_EVERY_NS", 1)
    full = engine.plan.kv.nbytes
    engine._serving.loop.start_thread()
    sleep(0.05)
    group.limits = MachineLimits({"group": 1}, AMPLE, rest_bytes(engine) + full // 3)
    end = monotonic() + 10
    while page_bytes(engine) == full:
        assert monotonic() < end
        sleep(0.01)
