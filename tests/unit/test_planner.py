"""Offsets of a plan: nothing that lives overlaps, every step reads what an earlier one wrote."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.layers import attention_of, has_post_norms, has_pre_norms, layer_of, mlp_of
from support.plan_flow import Access, Range, accesses, permanent
from tonnage.backends.cpu.layout.plan import make_plan
from tonnage.backends.cpu.layout.scratch import Need, share_bytes
from tonnage.backends.cpu.layout.sizes import WORKER_SCRATCH_BYTES
from tonnage.blocks.attention import Attention
from tonnage.blocks.gated_mlp import GatedMlp
from tonnage.core.block import Layer
from tonnage.core.block_format import ALL_FORMATS, F32, FLOAT_FORMATS, BlockFormat
from tonnage.core.checkpoint import TensorEntry
from tonnage.core.footprint import (
    THREAD_STACK_BYTES,
    sampler_bytes,
    text_facts,
    tokenizer_bytes,
)
from tonnage.core.kv_format import PAGE_TOKENS
from tonnage.core.model_spec import ModelSpec
from tonnage.core.plan import KV_FORMATS, Plan
from tonnage.core.rope import RopeSpec
from tonnage.core.workload import Workload
from tonnage.planner.quality.precision import precision_formats

DIMS = st.sampled_from([16, 32, 48, 64, 80, 96, 128, 256])


BIASES = st.sampled_from([(), ("q", "k", "v"), ("k",), ("v", "o")])


@st.composite
def layers(draw: st.DrawFn, num_ropes: int) -> Layer:
    """Draw a layer; sizes of 256 let every block format fit."""
    num_kv_heads = draw(st.integers(1, 3))
    k_dim, v_dim = draw(DIMS), draw(st.sampled_from([32, 64, 128, 256]))
    attention = Attention(
        num_heads=num_kv_heads * draw(st.integers(1, 4)), num_kv_heads=num_kv_heads, k_dim=k_dim,
        v_dim=v_dim, scale=1.0, rope=draw(st.none() | st.integers(0, num_ropes - 1)),
        window=draw(st.sampled_from([0, 5])),
        biases=draw(BIASES), qk_norm=draw(st.sampled_from(["none", "head", "all"])),
    )  # fmt: skip
    hidden = draw(st.sampled_from([32, 160, 256, 1024]))
    pre_norms, post_norms = draw(st.booleans()), draw(st.booleans())
    return layer_of(attention, GatedMlp(hidden), pre_norms=pre_norms, post_norms=post_norms)


def shapes(spec: ModelSpec, *, tied: bool, factors: bool) -> dict[str, tuple[int, ...]]:
    """Return canonical name -> shape of all weights of a model."""
    d = spec.d_model
    out: dict[str, tuple[int, ...]] = {"embed": (spec.vocab_size, d), "final_norm": (d,)}
    if not tied:
        out["head"] = (spec.vocab_size, d)
    if factors:
        out["rope_factors"] = (spec.ropes[0].dim // 2,)
    for i, layer in enumerate(spec.layers):
        a = attention_of(layer)
        rows = {"q": a.num_heads * a.k_dim, "k": a.num_kv_heads * a.k_dim}
        rows["v"] = a.num_kv_heads * a.v_dim
        own: dict[str, tuple[int, ...]] = {name: (size, d) for name, size in rows.items()}
        own |= {f"{name}_bias": (size,) for name, size in rows.items() if name in a.biases}
        normed = {"none": {}, "head": dict.fromkeys("qk", a.k_dim), "all": rows}[a.qk_norm]
        own |= {f"{name}_norm": (normed[name],) for name in "qk" if name in normed}
        own |= {"o_bias": (d,)} if "o" in a.biases else {}
        own |= {"post_attn_norm": (d,), "post_mlp_norm": (d,)} if has_post_norms(layer) else {}
        own |= {"attn_norm": (d,), "mlp_norm": (d,)} if has_pre_norms(layer) else {}
        own |= {"o": (d, a.num_heads * a.v_dim)}
        hidden = mlp_of(layer).hidden
        own |= {"gate": (hidden, d), "up": (hidden, d), "down": (d, hidden)}
        out |= {f"layers.{i}.{name}": shape for name, shape in own.items()}
    return out


@st.composite
def specs(draw: st.DrawFn) -> ModelSpec:
    """Draw a model of one to three unlike layers whose matrices have any formats."""
    ropes = tuple(RopeSpec(16, 1e4) for _ in range(draw(st.integers(1, 2))))
    spec = ModelSpec(
        "any", draw(st.sampled_from([1, 33, 307])), draw(st.sampled_from([32, 96, 256])),
        tuple(draw(st.lists(layers(len(ropes)), min_size=1, max_size=3))), ropes, 512, 1e-6,
    )  # fmt: skip
    entries = {}
    for name, shape in shapes(spec, tied=draw(st.booleans()), factors=draw(st.booleans())).items():
        fits: list[BlockFormat] = [f for f in ALL_FORMATS if shape[-1] % f.block_elems == 0]
        fmt = draw(st.sampled_from(fits)) if len(shape) == 2 else F32
        entries[name] = TensorEntry(name, fmt, shape, "file", 0, fmt.nbytes(shape))
    spec.weights.update(entries)
    return spec


WORKLOADS = st.builds(
    Workload, context_tokens=st.integers(1, 300), threads=st.integers(1, 3),
    concurrency=st.integers(1, 3), max_rows=st.sampled_from([1, 5, 64, 512]),
    max_logit_rows=st.sampled_from([1, 5, 64]),
    kv_format=st.sampled_from(KV_FORMATS),
)  # fmt: skip


def overlap(a: Range, b: Range) -> bool:
    """Whether two byte ranges share a byte."""
    return a[0] < b[1] and b[0] < a[1]


def assert_flow(steps: list[Access]) -> None:
    """Assert that what a step reads is what was last written there, whole."""
    written: dict[int, Range] = {}
    for step in steps:
        for area in step.reads:
            have = written.get(area[0])
            assert have is not None, f"{step.op} reads {area}, which was overwritten"
            assert area[1] <= have[1], f"{step.op} reads {area} of which only {have} was written"
        for area in step.writes:
            others = [r for r in step.reads + step.writes if r[0] != area[0]]
            assert not any(overlap(area, other) for other in others), f"{step.op} writes its input"
            written = {at: have for at, have in written.items() if not overlap(have, area)}
            written[area[0]] = area


@settings(deadline=None, max_examples=150)
@given(spec=specs(), workload=WORKLOADS)
def test_nothing_that_lives_overlaps(spec: ModelSpec, workload: Workload) -> None:
    plan = make_plan(spec, workload)
    fixed = sorted(area for _, area in permanent(plan))
    for (_, end), (begin, _) in pairwise(fixed):
        assert end <= begin
    steps = accesses(plan)
    scratch = {area for step in steps for area in step.reads + step.writes}
    assert fixed[-1][1] <= min(begin for begin, _ in scratch)
    assert max(end for _, end in scratch) <= plan.arena_bytes
    buffers = [(buffer.offset, buffer.offset + buffer.nbytes) for buffer in plan.buffers]
    assert all(begin % 64 == 0 for begin, _ in scratch)
    assert all(any(b == begin and end <= e for b, e in buffers) for begin, end in scratch)
    assert_flow(steps)
    # Sums of hidden states last from step to step.
    (sums,) = [step.writes[0] for step in steps if step.op == "pool_hidden"]
    others = [
        area for step in steps if step.op != "pool_hidden" for area in step.reads + step.writes
    ]
    assert not any(overlap(sums, area) for area in others)
    pooled = plan.buffer("pooled")
    assert sums == (pooled.offset, pooled.offset + 8 * plan.concurrency * plan.d_model)
    assert pooled.nbytes == 8 * plan.concurrency * plan.d_model


@settings(deadline=None, max_examples=100)
@given(spec=specs(), workload=WORKLOADS)
def test_the_ledger_adds_up(spec: ModelSpec, workload: Workload) -> None:
    plan = make_plan(spec, workload)
    sizes = {item.name: item.planned_bytes for item in plan.items}
    by_kind = {item.kind: item.planned_bytes for item in plan.items}
    assert len(sizes) == len(plan.items)
    assert plan.total_bytes == sum(sizes.values())
    # The arena's items tile it; weights and pages end on borders of huge pages.
    assert by_kind["weight"] + by_kind["kv"] + by_kind["scratch"] == plan.arena_bytes
    assert 0 <= by_kind["weight"] - plan.weight_bytes < (2 << 20) + 64 * 1024
    assert 0 <= by_kind["kv"] - plan.kv.nbytes < 2 << 20
    threads = workload.threads
    assert sizes["thread scratch"] == threads * (WORKER_SCRATCH_BYTES + THREAD_STACK_BYTES)
    assert sizes["load buffers"] > 0
    assert sizes["sampler"] == sampler_bytes(spec.vocab_size) * workload.concurrency
    assert sizes["tokenizer"] == tokenizer_bytes(text_facts(spec.vocab_size))
    tokens = plan.kv.groups[0].num_pages * PAGE_TOKENS
    assert tokens >= workload.context_tokens * workload.concurrency
    held = {m.name for m in plan.matrices} | {v.name for v in plan.vectors}
    assert held == set(spec.weights)
    for precision in ("8bit", "4bit"):
        formats = precision_formats(spec, precision)
        plan = make_plan(spec, replace(workload, formats=formats))
        assert not {m.format for m in plan.matrices} & FLOAT_FORMATS


@settings(deadline=None, max_examples=50)
@given(spec=specs(), workload=WORKLOADS)
def test_json_restores_any_plan(spec: ModelSpec, workload: Workload) -> None:
    plan = make_plan(spec, workload)
    assert Plan.from_json(plan.to_json()) == plan
    assert make_plan(spec, workload).to_json() == plan.to_json()


NEEDS = st.lists(
    st.tuples(st.integers(1, 5000), st.integers(0, 10), st.integers(0, 10)), min_size=1, max_size=12
)


@given(sizes=NEEDS, base=st.integers(0, 1000))
def test_shared_scratch(sizes: list[tuple[int, int, int]], base: int) -> None:
    needs = [
        Need(str(i), n, (2 << max(a, b)) - (1 << min(a, b))) for i, (n, a, b) in enumerate(sizes)
    ]
    placed = {b.name: (b.offset, b.offset + b.nbytes) for b in share_bytes(needs, base)}
    assert len(placed) == len(needs)
    for i, one in enumerate(needs):
        assert placed[one.name][0] >= base
        for other in needs[:i]:
            if one.live & other.live:
                assert not overlap(placed[one.name], placed[other.name])
    together = sum(-(-n.nbytes // 64) * 64 for n in needs)
    assert max(end for _, end in placed.values()) <= base + 63 + together


def test_weights_that_two_steps_need_are_read_once() -> None:
    # Gate and up alternate panel by panel, so that one sweep reads both.
    spec = _one_layer(hidden=96)
    plan = make_plan(spec, Workload(context_tokens=64, threads=1))
    gate, up = (next(m for m in plan.matrices if m.name.endswith(n)) for n in ("gate", "up"))
    assert gate.panel_stride == up.panel_stride == 2 * (gate.nbytes // 3)
    assert up.offset == gate.offset + gate.nbytes // 3


def _one_layer(hidden: int) -> ModelSpec:
    layer = layer_of(Attention(2, 1, 32, 32, 1.0), GatedMlp(hidden))
    spec = ModelSpec("any", 50, 64, (layer,), (RopeSpec(32, 1e4),), 512, 1e-6)
    for name, shape in shapes(spec, tied=True, factors=False).items():
        spec.weights[name] = TensorEntry(name, F32, shape, "file", 0, F32.nbytes(shape))
    return spec


@pytest.mark.parametrize(("fmt", "row_bytes"), [("F32", 100 * 4), ("Q8_0", 4 * 34)])
def test_floats_end_with_their_row_and_codes_with_their_block(fmt: str, row_bytes: int) -> None:
    formats = (("layers.0.down", fmt),)
    plan = make_plan(
        _one_layer(hidden=100), Workload(context_tokens=64, threads=1, formats=formats)
    )
    down = next(matrix for matrix in plan.matrices if matrix.name == "layers.0.down")
    assert (down.rows, down.cols) == (64, 100)
    assert down.nbytes == 64 * row_bytes
