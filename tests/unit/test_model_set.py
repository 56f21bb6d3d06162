"""Plans of several models under one budget: the process once, room for others, always the same."""

import pytest

from support.live_server import write_chat_model
from tonnage.core.errors import BudgetError, RequestError
from tonnage.core.machine import MachineLimits
from tonnage.engine import model_set
from tonnage.engine.build import ServingOptions
from tonnage.engine.engine import THIS_PROCESS, Engine
from tonnage.engine.model_set import make_model_set
from tonnage.engine.opening import constraints_of
from tonnage.server.models.load_policy import LoadPolicy, Size
from tonnage.store.source import ModelSource

MIB = 1 << 20
SERVING = ServingOptions(server_bytes=20 * MIB)
OPTIONS = (constraints_of({"threads": 1, "concurrency": 2}, SERVING), SERVING)


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> dict[str, ModelSource]:
    folder = tmp_path_factory.mktemp("models")
    widths = {"small": 96, "middle": 192, "large": 288}
    return {
        name: ModelSource(name, write_chat_model(folder / name, hidden_size=width), "folder")
        for name, width in widths.items()
    }


@pytest.fixture(autouse=True)
def same_process(monkeypatch) -> None:
    """Let what the tests themselves leave in memory be no part of any plan."""
    begin = model_set.Start.of(THIS_PROCESS)
    monkeypatch.setattr(model_set.Start, "of", lambda process: begin)


def ample_bytes() -> int:
    """Return a budget beside what the tests before have left in this process."""
    return model_set.Start.of(THIS_PROCESS).resident_bytes + 280 * MIB


def least_bytes(sources, pinned=()) -> int:
    """Return what the refusal of a tiny budget says is needed."""
    with pytest.raises(BudgetError, match="allow --memory") as caught:
        make_model_set(sources, MIB, *OPTIONS, pinned=pinned)
    return int(str(caught.value).rpartition(" ")[2].removesuffix("MiB.")) * MIB


@pytest.mark.parametrize("pinned", ["", "small", "large small", "small middle large"])
def test_what_a_model_set_promises_fits_whatever_is_loaded(sources, pinned):
    pinned = pinned.split()
    least = least_bytes(sources, pinned)
    for budget in (least, least + 3 * MIB, least + 40 * MIB):
        made = make_model_set(sources, budget, *OPTIONS, pinned=pinned)
        assert [model.name for model in made.models] == list(sources)
        assert made.process_bytes + made.capacity_bytes == budget
        sizes = {one.name: Size(one.resident_bytes, one.loading_bytes) for one in made.models}
        # It refuses sizes that could never be loaded.
        LoadPolicy(sizes, made.capacity_bytes, pinned=pinned)
        kept = sum(one.resident_bytes for one in made.models if one.pinned)
        assert kept <= made.capacity_bytes


def test_more_memory_gives_pinned_models_more_of_it_and_leaves_each_other_model_loadable(sources):
    least = least_bytes(sources, ("large",))
    made = [
        make_model_set(sources, budget, *OPTIONS, pinned=("large",))
        for budget in (least, least + 200 * MIB)
    ]
    narrow, wide = (one.models[2] for one in made)
    assert narrow.context_tokens <= wide.context_tokens
    assert narrow.resident_bytes < wide.resident_bytes
    for one in made:
        *others, pinned = one.models
        assert [model.pinned for model in one.models] == [False, False, True]
        for other in others:
            assert pinned.resident_bytes + other.loading_bytes <= one.capacity_bytes


def test_a_model_is_loaded_by_the_plan_that_was_chosen_whatever_else_is_there(sources):
    made = make_model_set(sources, ample_bytes(), *OPTIONS)
    small, _, large = made.models
    with small.open() as alone:
        expected = (alone.plan.items, alone.plan.steps)
        assert alone.plan.own_bytes == small.resident_bytes
        assert alone.plan.own_bytes + alone.plan.load_bytes == small.loading_bytes
        assert alone.plan.total_bytes == small.memory_bytes
    with large.open() as other, small.open() as beside:
        assert (beside.plan.items, beside.plan.steps) == expected
        ledger = made.ledger({"large": other, "small": beside}, {}, 0)
        models = [item.model for item in ledger.items]
        assert models == sorted(models, key=["", "large", "small"].index)
        planned = made.process_bytes + small.resident_bytes + large.resident_bytes
        assert ledger.total_bytes == planned <= ledger.budget_bytes
        loading = made.ledger({"large": other}, {"small": 5}, 0).items[-1]
        assert (loading.planned_bytes, loading.now_bytes) == (small.loading_bytes, 5)


def test_a_file_that_has_grown_is_refused_instead_of_taking_more(sources, tmp_path):
    folder = write_chat_model(tmp_path / "grows")
    (model,) = make_model_set(
        {"grows": ModelSource("grows", folder, "folder")}, ample_bytes(), *OPTIONS
    ).models
    write_chat_model(folder, num_hidden_layers=40)
    with pytest.raises(BudgetError, match="short"):
        model.open()


def test_a_name_to_pin_that_is_unknown_is_refused(sources):
    with pytest.raises(RequestError, match="did you mean small"):
        make_model_set(sources, ample_bytes(), *OPTIONS, pinned=["smal"])


def test_a_changed_limit_counts_what_all_engines_take(sources):
    made = make_model_set(sources, ample_bytes(), *OPTIONS)
    small, _, large = made.models

    def left(engine: Engine, process_bytes: int) -> int:
        return engine._pages.bounds(MachineLimits({}, 1 << 40, process_bytes)).planned_bytes

    with large.open() as other, small.open() as engine:
        both = made.process_bytes + small.loading_bytes + large.resident_bytes
        all_bytes = engine.plan.kv.nbytes
        assert left(engine, both) >= all_bytes
        assert 0 < left(engine, both - all_bytes // 2) < all_bytes
        other.close()
        assert left(engine, both - all_bytes // 2) >= all_bytes
