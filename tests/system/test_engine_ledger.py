"""`Engine.ledger()` in a process that carries more than the command line does."""

from pathlib import Path

import pytest

from support.checkpoints import tiny_config, tiny_model, write_gguf
from tonnage.core.errors import BudgetError, RequestError
from tonnage.core.footprint import INTERPRETER_BYTES, LATE_LIBRARY_BYTES
from tonnage.engine.engine import Engine
from tonnage.machine.memory_use import rss_bytes


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("ledger") / "tiny.gguf"
    return write_gguf(path, tiny_model(tiny_config("llama"), seed=1))


def test_two_engines_measure_their_own_arenas(model):
    with Engine.open(str(model), context=64, threads=1) as one:
        with Engine.open(str(model), context=64, threads=1) as two:
            assert one.runtime is not two.runtime
            two.generate("Hello", max_tokens=2, raw=True).complete()
            used, idle = (
                {entry.name: entry for entry in engine.ledger().items} for engine in (two, one)
            )
        assert used["kv pages"].now_bytes > 0 == idle["kv pages"].now_bytes
        for name in ("weights", "kv pages", "step scratch"):
            assert used[name].now_bytes <= used[name].planned_bytes
    with pytest.raises(RequestError, match="closed"):
        one.ledger()


def test_what_the_process_holds_already_counts(model):
    before = rss_bytes()
    with Engine.open(str(model), context=64, threads=1) as engine:
        items = {item.name: item.planned_bytes for item in engine.plan.items}
        assert items["interpreter and libraries"] >= before + LATE_LIBRARY_BYTES
        total = engine.plan.total_bytes
    assert before + LATE_LIBRARY_BYTES > INTERPRETER_BYTES  # pytest and numpy are here
    with pytest.raises(BudgetError, match="short"):
        Engine.open(str(model), total - before, context=64, threads=1)


def test_engines_of_one_process_share_its_budget(model):
    with Engine.open(str(model), context=64, threads=1) as one:
        alone_bytes = one.plan.total_bytes
        with Engine.open(str(model), context=64, threads=1) as two:
            items = {item.name: item.planned_bytes for item in two.plan.items}
            assert items["other engines"] == one.planned_bytes
            assert one.ledger().items[-1].planned_bytes == two.planned_bytes
        with pytest.raises(BudgetError, match="other engines"):
            Engine.open(str(model), alone_bytes, context=64, threads=1)
    with Engine.open(str(model), context=64, threads=1) as three:
        assert "other engines" not in {item.name for item in three.plan.items}
