"""Between pool and files: which pages move, and what a plan's identity depends on."""

from dataclasses import fields, replace

import pytest

from support.checkpoints import tiny_config, tiny_model, write_hf
from support.pages import PAGE_BYTES, chain, page_paths, pages_of, small_store
from tonnage.backends.cpu.layout.plan import make_plan
from tonnage.core.model_spec import ModelSpec
from tonnage.core.plan import Plan, SlotBlockPlan
from tonnage.core.workload import Workload
from tonnage.engine.headers import read_spec
from tonnage.kvcache.page_identity import page_identity
from tonnage.kvcache.page_tier import PageTier
from tonnage.kvcache.pages import LOST
from tonnage.planner.quality.precision import precision_formats
from tonnage.store.source import ModelSource


class Pool:
    """Pages of two groups as a dictionary; counts what is read."""

    def __init__(self) -> None:
        self.pages: dict[tuple[int, int], bytes] = {}
        self.num_reads = 0

    def read_page(self, group: int, page: int) -> bytes:
        self.num_reads += 1
        return self.pages[group, page]

    def write_page(self, group: int, page: int, data: bytes) -> None:
        self.pages[group, page] = data


@pytest.fixture
def tier(tmp_path) -> PageTier:
    pool = Pool()
    pool.pages = {(0, 5): b"a" * PAGE_BYTES, (1, 6): b"b" * 64}
    return PageTier(small_store(tmp_path), pool)


def test_pages_come_back_into_other_places(tier):
    (page,) = pages_of(tier.store, chain(1))
    tier.put(page.key, page.tokens, [5, 6])
    assert tier.get(page.key, page.tokens, [1, 2])
    pool = tier._access
    assert (pool.pages[0, 1], pool.pages[1, 2]) == (b"a" * PAGE_BYTES, b"b" * 64)


def test_keys_are_those_of_the_store(tier):
    first, second = pages_of(tier.store, chain(2), "salt")
    assert tier.page_key(tier.root_key("salt"), first.tokens) == first.key
    assert tier.page_key(first.key, second.tokens) == second.key


def test_a_page_that_is_kept_already_is_not_read_again(tier):
    (page,) = pages_of(tier.store, chain(1))
    for _ in range(3):
        tier.put(page.key, page.tokens, [5, 6])
    assert tier._access.num_reads == 2


def test_what_a_group_has_lost_is_neither_kept_nor_wanted(tier, tmp_path):
    (page,) = pages_of(tier.store, chain(1))
    tier.put(page.key, page.tokens, [5, LOST])
    assert len(page_paths(tmp_path)) == 1
    assert tier.get(page.key, page.tokens, [1, LOST])
    before = dict(tier._access.pages)
    assert not tier.get(page.key, page.tokens, [2, 3])
    assert tier._access.pages == before
    assert not tier.get(page.key, page.tokens, [LOST, LOST])
    tier.put(page.key, page.tokens, [LOST, 6])
    assert tier.get(page.key, page.tokens, [2, 3])


WORKLOAD = Workload(context_tokens=256, threads=1, concurrency=2, max_rows=64, max_logit_rows=2)


@pytest.fixture(scope="module")
def spec(tmp_path_factory) -> ModelSpec:
    folder = write_hf(tmp_path_factory.mktemp("m") / "hf", tiny_model(tiny_config("gemma2")))
    return read_spec(ModelSource("m", folder, "folder"))


@pytest.fixture(scope="module")
def plan(spec) -> Plan:
    return make_plan(spec, WORKLOAD)


def identity(plan: Plan, model="m", tokenizer="t", template: str | None = None) -> bytes:
    return page_identity(model, tokenizer, template, plan)


@pytest.mark.parametrize(
    "change",
    [{"context_tokens": 512}, {"threads": 2}, {"concurrency": 1}, {"max_rows": 32},
     {"max_logit_rows": 1}],
)  # fmt: skip
def test_what_changes_no_page_changes_no_identity(spec, plan, change):
    assert identity(make_plan(spec, replace(WORKLOAD, **change))) == identity(plan)


def test_everything_else_does(spec, plan):
    specs = [
        replace(spec, norm_eps=2 * spec.norm_eps),
        replace(spec, embed_scale=2 * spec.embed_scale),
        replace(spec, norm_offset=spec.norm_offset + 1),
    ]
    kv = plan.kv
    others = [
        identity(plan, model="n"),
        identity(plan, tokenizer="u"),
        identity(plan, template="{{ x }}"),
        identity(make_plan(spec, replace(WORKLOAD, formats=precision_formats(spec, "8bit")))),
        identity(make_plan(spec, replace(WORKLOAD, formats=precision_formats(spec, "4bit")))),
        identity(replace(plan, kv=replace(kv, format="other"))),
        identity(replace(plan, kv=replace(kv, layers=kv.layers[::-1]))),
        identity(replace(plan, steps=plan.steps[::-1])),
        *(identity(make_plan(other, WORKLOAD)) for other in specs),
        identity(plan),
    ]
    assert len(set(others)) == len(others)
    assert identity(plan) == identity(plan)
    assert len(identity(plan)) == 32


# What a step computes with, by the kind of step and the name of its field.
ARITHMETIC = (
    ("attend", "window"), ("attend", "num_heads"), ("attend", "softcap"), ("rope_table", "pairs"),
    ("rope_kv_write", "pairs"), ("rope_kv_write", "num_heads"), ("rope_kv_write", "scale"),
    ("norm", "eps"),
)  # fmt: skip


def changed_steps(plan: Plan, op: str, field: str) -> tuple[object, ...] | None:
    """Return the steps of `plan`, one of kind `op` with another `field`; None without any."""
    for index, step in enumerate(plan.steps):
        if step.op == op and field in {one.name for one in fields(step)}:
            other = replace(step, **{field: getattr(step, field) + 1})
            return (*plan.steps[:index], other, *plan.steps[index + 1 :])
    return None


@pytest.mark.parametrize(("op", "field"), ARITHMETIC)
def test_what_a_step_computes_with_changes_the_identity(plan, op, field):
    """The same pages and weights hold other values under another window or rotary embedding."""
    steps = changed_steps(plan, op, field)
    assert steps is not None
    assert identity(replace(plan, steps=steps)) != identity(plan)


def test_other_native_code_is_another_identity(plan, monkeypatch):
    before = identity(plan)
    monkeypatch.setattr("tonnage.kvcache.page_identity._native_digest", lambda: "others")
    assert identity(plan) != before


def test_where_things_lie_in_a_page_changes_the_identity(plan):
    """Bytes of one layout are other values in another."""
    kv = plan.kv
    group, layer = kv.groups[0], kv.layers[0]
    others = [
        replace(kv, page_tokens=kv.page_tokens // 2),
        replace(kv, groups=(replace(group, window=group.window + 1), *kv.groups[1:])),
        replace(kv, groups=(replace(group, page_stride=2 * group.page_stride), *kv.groups[1:])),
        *(
            replace(kv, layers=(replace(layer, **{name: getattr(layer, name) + 1}), *kv.layers[1:]))
            for name in ("offset", "num_heads", "k_dim", "v_dim")
        ),
    ]
    identities = {identity(replace(plan, kv=other)) for other in (kv, *others)}
    assert len(identities) == len(others) + 1


def test_where_the_pool_lies_in_memory_does_not(plan):
    kv = plan.kv
    moved = replace(
        kv,
        groups=tuple(replace(one, offset=one.offset + 4096) for one in kv.groups),
        layers=tuple(replace(one, offset=one.offset + 4096) for one in kv.layers),
    )
    assert identity(replace(plan, kv=moved)) == identity(plan)


def test_weights_norms_ropes_and_states_change_the_identity(plan):
    matrix, vector, rope = plan.matrices[0], plan.vectors[0], plan.ropes[0]
    low, *more = rope.frequencies
    others = [
        *(
            replace(plan, matrices=(replace(matrix, **change), *plan.matrices[1:]))
            for change in (
                {"name": "other"}, {"format": "Q8_0"}, {"rows": matrix.rows + 1},
                {"cols": matrix.cols + 1}, {"source": replace(matrix.source, format="Q4_K")},
            )
        ),
        *(
            replace(plan, vectors=(replace(vector, **change), *plan.vectors[1:]))
            for change in ({"name": "other"}, {"count": vector.count + 1}, {"add": vector.add + 1})
        ),
        *(
            replace(plan, ropes=(replace(rope, **change), *plan.ropes[1:]))
            for change in (
                {"frequencies": (2 * low, *more)}, {"factors": "other"}, {"attention_factor": 2.0},
            )
        ),
        replace(plan, slots=replace(plan.slots, blocks=(SlotBlockPlan(0, 8),))),
        replace(plan, slots=replace(plan.slots, blocks=(SlotBlockPlan(64, 8),))),
        replace(plan, slots=replace(plan.slots, blocks=(SlotBlockPlan(0, 9),))),
    ]  # fmt: skip
    assert len({identity(other) for other in (plan, *others)}) == len(others) + 1


def test_no_template_is_an_empty_one_and_any_text_has_an_identity(plan):
    assert identity(plan, template=None) == identity(plan, template="")
    assert identity(plan, template="\udcff") != identity(plan)
