"""Rope settings of both containers: what absent ones mean, where their limits lie."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from support.checkpoints import LLAMA3, tiny_config, tiny_model, write_gguf, write_hf
from support.containers import read_gguf, read_hf
from tonnage.core.checkpoint import Catalog
from tonnage.core.errors import TensorMismatchError, UnsupportedModelError
from tonnage.core.model_spec import ModelSpec
from tonnage.core.rope import LongRope, RopeSpec, Yarn
from tonnage.models.registry import spec_from_gguf, spec_from_hf

FAMILIES = ("llama", "gemma3_text")
Files = dict[str, tuple[dict, Catalog]]
CONTEXT = 512


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("gguf")
    return {
        family: read_gguf(write_gguf(folder / family, tiny_model(tiny_config(family))))
        for family in FAMILIES
    }


@pytest.fixture(scope="module")
def hf(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("hf")
    return {
        family: read_hf(write_hf(Path(folder) / family, tiny_model(tiny_config(family))))
        for family in FAMILIES
    }


def gguf_ropes(files: Files, family: str, **changes: object) -> tuple[RopeSpec, ...]:
    """Return the ropes with settings replaced; `__` stands for the dot of a key."""
    metadata, catalog = files[family]
    prefix = f"{metadata['general.architecture']}.rope."
    changed = {prefix + key.replace("__", "."): value for key, value in changes.items()}
    return spec_from_gguf({**metadata, **changed}, catalog).ropes


def hf_ropes(files: Files, family: str, **changes: object) -> tuple[RopeSpec, ...]:
    config, catalog = files[family]
    return spec_from_hf({**config, **changes}, catalog).ropes


@pytest.mark.parametrize(("kind", "factor"), [(None, 4.0), ("linear", 4.0), ("none", 1.0)])
def test_gguf_factors_count_unless_there_is_no_scaling(
    gguf: Files, kind: str | None, factor: float
) -> None:
    (rope,) = gguf_ropes(gguf, "llama", scaling__type=kind, scaling__factor=4.0)
    assert rope.factor == factor


def test_gguf_limits_are_allowed(gguf: Files) -> None:
    (rope,) = gguf_ropes(gguf, "llama", scaling__type="linear", scaling__factor=1.0, freq_base=1.0)
    assert (rope.factor, rope.base) == (1.0, 1.0)


@pytest.mark.parametrize("key", ["scaling__factor", "freq_base"])
def test_gguf_numbers_below_one_are_refused(gguf: Files, key: str) -> None:
    with pytest.raises(UnsupportedModelError, match="finite number of at least 1"):
        gguf_ropes(gguf, "llama", **{key: 0.5})


def test_gguf_local_base_of_gemma3_is_ten_thousand(gguf: Files) -> None:
    assert [rope.base for rope in gguf_ropes(gguf, "gemma3_text", freq_base_swa=None)] == [1e6, 1e4]


@pytest.mark.parametrize("name", ["attn_rot_embd.weight", "attn_rot_embd"])
def test_inverse_frequencies_of_old_converters_are_passed_over(gguf: Files, name: str) -> None:
    metadata, catalog = gguf["llama"]
    entry = next(iter(catalog.tensors.values()))
    more = replace(catalog, tensors={**catalog.tensors, f"blk.0.{name}": entry})
    assert spec_from_gguf(metadata, more) == spec_from_gguf(metadata, catalog)


def test_llama3_scales_from_the_context_where_no_other_is_said(hf: Files) -> None:
    table = {key: value for key, value in LLAMA3.items() if not key.startswith("original")}
    (old,) = hf_ropes(hf, "llama", rope_scaling=table)
    (new,) = hf_ropes(hf, "llama", rope_parameters=table)
    assert old.llama3 == new.llama3 == (8.0, 1.0, 4.0, CONTEXT)
    nested = {"full_attention": table, "sliding_attention": table}
    ropes = hf_ropes(hf, "gemma3_text", rope_parameters=nested)
    assert [rope.llama3 for rope in ropes] == [(8.0, 1.0, 4.0, CONTEXT)] * 2


def test_hf_limits_are_allowed(hf: Files) -> None:
    linear = {"rope_type": "linear", "factor": 1.0}
    (rope,) = hf_ropes(hf, "llama", rope_theta=1.0, rope_scaling=linear)
    assert (rope.factor, rope.base) == (1.0, 1.0)
    (rope,) = hf_ropes(hf, "llama", rope_parameters={"rope_theta": 1.0})
    assert rope.base == 1.0
    assert hf_ropes(hf, "gemma3_text", rope_local_base_freq=1.0)[1].base == 1.0


def test_the_local_base_is_read(hf: Files) -> None:
    assert hf_ropes(hf, "gemma3_text", rope_local_base_freq=2e3)[1].base == 2e3


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("llama", {"rope_theta": 0.5}),
        ("llama", {"rope_parameters": {"rope_theta": 0.5}}),
        ("llama", {"rope_scaling": {"rope_type": "linear", "factor": 0.5}}),
        ("gemma3_text", {"rope_local_base_freq": 0.5}),
    ],
)
def test_hf_numbers_below_one_are_refused(
    hf: Files, family: str, changes: dict[str, object]
) -> None:
    with pytest.raises(UnsupportedModelError, match="finite number of at least 1"):
        hf_ropes(hf, family, **changes)


@pytest.mark.parametrize("layers", ["full_attention", "sliding_attention"])
def test_a_refusal_names_the_nested_table(hf: Files, layers: str) -> None:
    nested = {layers: {"rope_type": "linear"}}
    with pytest.raises(UnsupportedModelError, match=rf"rope_parameters\.{layers}\.factor is missi"):
        hf_ropes(hf, "gemma3_text", rope_parameters=nested)


def test_factors_in_the_wrong_order_are_refused_with_the_limit(hf: Files) -> None:
    with pytest.raises(UnsupportedModelError, match=r"below high_freq_factor 4\.0"):
        hf_ropes(hf, "llama", rope_scaling=LLAMA3 | {"low_freq_factor": 4.0})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"scaling__factor": 4.0, "scaling__original_context_length": 64}, Yarn(4.0, 64)),
        ({"scaling__factor": 2.0}, Yarn(2.0, CONTEXT)),
        (
            {
                "scaling__factor": 2.0,
                "scaling__yarn_beta_fast": 16.0,
                "scaling__yarn_beta_slow": 2.0,
            },
            Yarn(2.0, CONTEXT, 16.0, 2.0),
        ),
    ],
)
def test_gguf_yarn(gguf: Files, changes: dict[str, object], expected: Yarn) -> None:
    (rope,) = gguf_ropes(gguf, "llama", scaling__type="yarn", **changes)
    assert (rope.scaling, rope.factor) == (expected, 1.0)
    assert rope.attention_factor == pytest.approx(0.1 * math.log(expected.factor) + 1)


def test_gguf_attention_factors(gguf: Files) -> None:
    yarn = {"scaling__type": "yarn", "scaling__factor": 4.0}
    (rope,) = gguf_ropes(gguf, "llama", **yarn, scaling__yarn_log_multiplier=0.5)
    assert rope.attention_factor == pytest.approx(
        (0.1 * math.log(4) + 1) / (0.05 * math.log(4) + 1)
    )
    (rope,) = gguf_ropes(gguf, "llama", **yarn, scaling__attn_factor=0.5)
    assert rope.attention_factor == pytest.approx(0.5 * (0.1 * math.log(4) + 1))
    (rope,) = gguf_ropes(gguf, "llama", scaling__attn_factor=1.5)
    assert rope.attention_factor == 1.5


@pytest.mark.parametrize("kind", ["linear", None])
def test_gguf_factors_of_old_files(gguf: Files, kind: str | None) -> None:
    assert gguf_ropes(gguf, "llama", scaling__type=kind, scale_linear=4.0)[0].factor == 4.0
    both = {"scale_linear": 4.0, "scaling__factor": 2.0}
    assert gguf_ropes(gguf, "llama", scaling__type=kind, **both)[0].factor == 2.0
    assert gguf_ropes(gguf, "llama", scaling__type=kind, scaling__factor=0.0)[0].factor == 1.0


def with_factor_tensors(files: Files, *names: str) -> tuple[dict, Catalog]:
    metadata, catalog = files["llama"]
    vector = replace(catalog.tensors["output_norm.weight"], shape=(32,), nbytes=128)
    tensors = {**catalog.tensors, **{f"{name}.weight": vector for name in names}}
    return metadata, replace(catalog, tensors=tensors)


def test_gguf_longrope_takes_the_tensor_of_its_context(gguf: Files) -> None:
    metadata, catalog = with_factor_tensors(gguf, "rope_factors_long", "rope_factors_short")
    scaling = {
        "llama.rope.scaling.type": "longrope",
        "llama.rope.scaling.original_context_length": 64,
        "llama.rope.scaling.attn_factor": 1.25,
    }
    spec = spec_from_gguf({**metadata, **scaling}, catalog)
    assert spec.ropes[0].scaling == LongRope(64)
    assert spec.ropes[0].attention_factor == 1.25
    for context, name in ((64, "rope_factors_short"), (65, "rope_factors_long")):
        planned = spec.for_context(context)
        assert planned.weights["rope_factors"] == spec.weights[name]
        assert "rope_factors_long" not in planned.weights
    # Files of Phi-3 name no type.
    unnamed = {key: value for key, value in scaling.items() if not key.endswith("type")}
    assert spec_from_gguf({**metadata, **unnamed}, catalog) == spec
    with pytest.raises(TensorMismatchError, match="2 left over: rope_factors_long"):
        spec_from_gguf({**metadata, **scaling, "llama.rope.scaling.type": "linear"}, catalog)


def test_hf_contexts_reach_as_far_as_ropes_are_stretched(hf: Files) -> None:
    def spec(**scaling: object) -> ModelSpec:
        config, catalog = hf["llama"]
        return spec_from_hf({**config, "rope_scaling": scaling}, catalog)

    yarn = spec(type="yarn", factor=4.0)
    assert (yarn.context_length, yarn.default_context) == (4 * CONTEXT, 4 * CONTEXT)
    ready = spec(type="yarn", factor=4.0, original_max_position_embeddings=CONTEXT // 4)
    assert (ready.context_length, ready.default_context) == (CONTEXT, CONTEXT)
    dynamic = spec(type="dynamic", factor=4.0)
    assert (dynamic.context_length, dynamic.default_context) == (4 * CONTEXT, CONTEXT)


LONG = {"rope_type": "longrope", "short_factor": [1.0] * 32, "long_factor": [2.0] * 32}


@pytest.mark.parametrize("kind", ["longrope", "su"])
def test_hf_longrope_under_both_names(hf: Files, kind: str) -> None:
    table = {**LONG, "rope_type": kind}
    (rope,) = hf_ropes(hf, "llama", rope_scaling=table, original_max_position_embeddings=64)
    assert rope.scaling == LongRope(64, (1.0,) * 32, (2.0,) * 32)
    assert rope.attention_factor == pytest.approx(math.sqrt(1 + math.log(8) / math.log(64)))


def test_hf_an_odd_part_is_named_with_its_value(hf: Files) -> None:
    with pytest.raises(UnsupportedModelError, match=r"partial_rotary_factor is 0\.8; .* of 64"):
        hf_ropes(hf, "llama", partial_rotary_factor=0.8)


def test_hf_partial_ropes(hf: Files) -> None:
    assert hf_ropes(hf, "llama", partial_rotary_factor=0.5)[0].dim == 32
    (rope,) = hf_ropes(hf, "llama", rope_parameters={"partial_rotary_factor": 0.25})
    assert rope.dim == 16
    (rope,) = hf_ropes(
        hf, "llama", rope_parameters={"rope_type": "proportional", "partial_rotary_factor": 0.25}
    )
    assert (rope.dim, rope.rotated_pairs) == (64, 8)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({**LONG, "short_factor": [1.0] * 31}, "short_factor .* a list of 32 finite numbers"),
        ({**LONG, "long_factor": [0.0] * 32}, "long_factor is 0.0"),
        ({**LONG, "long_factor": 2.0}, "long_factor is 2.0"),
        ({"type": "dynamic", "factor": 1e7}, "factor is 10000000.0; it must be at most 1,000,000"),
        ({"type": "dynamic", "factor": 2, "partial_rotary_factor": 1 / 32}, "another type for 2"),
        ({"type": "yarn", "factor": 4.0, "rope_theta": 1.0}, "rope_theta is 1.0; it must be above"),
        ({"type": "yarn", "factor": 4.0, "attn_factor": 2.0}, "attn_factor = 2.0"),
        ({"partial_rotary_factor": 1.5}, "partial_rotary_factor is 1.5; it must be at most 1"),
    ],
)
def test_hf_scalings_that_cannot_be_met_are_named(hf: Files, table: dict, message: str) -> None:
    with pytest.raises(UnsupportedModelError, match=message):
        hf_ropes(hf, "llama", rope_scaling=table)
