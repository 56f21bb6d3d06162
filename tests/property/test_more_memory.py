"""More memory never means a worse model: made-up models of every family under two budgets."""

from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golden.regenerate import MACHINE
from golden.spec_files import NAMES, load
from support.checkpoints import FAMILIES, tensor_shapes, tiny_config
from support.speeds import plain_speed
from support.tiny_families import TINY_FAMILIES
from tonnage.backends.cpu.layout.cpu_layout import CpuLayout
from tonnage.core.block_format import BY_NAME
from tonnage.core.checkpoint import Catalog, TensorEntry
from tonnage.core.model_spec import ModelSpec
from tonnage.models.registry import spec_from_hf
from tonnage.planner.search.budget import Budget
from tonnage.planner.search.choose import PlanChoice, Question, choose
from tonnage.planner.search.constraints import Constraints

HIGH = 0.01  # nats; docs/planning.md: what a longer context may cost that nobody asked for
SHORTEST = 512
ROUNDING = 1e-9  # sums of the same losses in another order


@cache
def made_spec(family: str, width: int, layers: int, context: int, fmt: str) -> ModelSpec:
    """Return a model whose matrices have one format where their rows allow; none are made."""
    traits = TINY_FAMILIES[family].settings
    config = tiny_config(
        family, hidden_size=width, intermediate_size=3 * width, num_hidden_layers=layers,
        vocab_size=4096, max_position_embeddings=context, head_dim=traits.get("head_dim", 64),
    )  # fmt: skip
    if family == "smollm3":
        config["no_rope_layers"] = [1] * layers
    entries, offset = {}, 0
    for name, shape in sorted(tensor_shapes(config).items()):
        kind = BY_NAME[fmt if len(shape) > 1 else "F32"]
        kind = kind if shape[-1] % kind.block_elems == 0 else BY_NAME["Q8_0"]
        nbytes = kind.nbytes(shape)
        entries[name] = TensorEntry(name, kind, shape, "model", offset, nbytes)
        offset += nbytes
    return spec_from_hf(config, Catalog(entries, ("model",), offset))


MADE = st.builds(
    made_spec,
    st.sampled_from(FAMILIES),
    st.sampled_from([256, 1024, 2048]),
    st.integers(1, 6),
    st.sampled_from([300, 1500, 4096, 40000]),
    st.sampled_from(["BF16", "Q8_0", "Q4_K"]),
)
STATED = st.builds(
    Constraints,
    context=st.none() | st.integers(2, 300),
    concurrency=st.sampled_from([1, 3]),
    share_pages=st.booleans(),
    max_kld=st.sampled_from([0.0, 0.01, 0.1, 0.5]),
    kv_format=st.sampled_from([None, None, "f16", "int8"]),
)
PREDICT = st.sampled_from([plain_speed(), plain_speed(knee=1), lambda _: None])


def under(question: Question, num_bytes: int) -> PlanChoice:
    return choose(question, Budget(num_bytes, "were allowed"), compare=False)


def check_not_worse(less: PlanChoice, more: PlanChoice) -> None:
    """`more` was chosen under a larger budget than `less`."""
    if not less.accepted:
        return
    assert more.accepted
    before, after = less.quality.mean_kld, more.quality.mean_kld
    assert after <= max(before, HIGH) * (1 + ROUNDING)
    contexts = less.workload.context_tokens, more.workload.context_tokens
    if after >= max(before, HIGH) * (1 - ROUNDING) or max(before, after) <= HIGH:
        assert contexts[0] <= contexts[1]
    if contexts[0] == contexts[1]:
        assert after <= before * (1 + ROUNDING)


@settings(max_examples=150, deadline=None)
@given(MADE, STATED, PREDICT, st.floats(0.2, 1.1), st.floats(0, 0.2) | st.floats(0, 0.01))
def test_a_larger_budget_is_never_worse(spec, stated, predict, share, more) -> None:
    question = Question(spec, MACHINE, CpuLayout(), stated, predict)
    whole = under(question, 1 << 40).plan.total_bytes
    less = int(share * whole)
    check_not_worse(under(question, less), under(question, less + int(more * whole)))


@pytest.mark.parametrize("name", NAMES)
def test_real_models_in_steps_of_a_megabyte(name: str) -> None:
    question = Question(load(name), MACHINE, CpuLayout(), Constraints(), plain_speed())
    whole = under(question, 1 << 40).plan.total_bytes
    made = [under(question, num_bytes) for num_bytes in range(whole, whole // 2, -whole // 80)]
    for less, more in zip(made[1:], made, strict=False):
        check_not_worse(less, more)


@settings(max_examples=60, deadline=None)
@given(MADE, PREDICT, st.floats(0.2, 1.1))
def test_a_context_that_nobody_asked_for_costs_nothing_beyond_high(spec, predict, share) -> None:
    """With a longer context than the shortest, less context would not have given less loss."""
    question = Question(spec, MACHINE, CpuLayout(), Constraints(), predict)
    budget = int(share * under(question, 1 << 40).plan.total_bytes)
    choice = under(question, budget)
    if not choice.accepted or choice.workload.context_tokens <= SHORTEST:
        return
    # Pages as they usually are: that exact ones would fit is no reason for a shorter context.
    stated = Constraints(context=SHORTEST, kv_format=choice.usual_kv_format)
    best = under(replace(question, constraints=stated), budget).quality.mean_kld
    assert choice.quality.mean_kld <= max(best, HIGH) * (1 + ROUNDING)
