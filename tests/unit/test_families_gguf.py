"""Families read from GGUF metadata: the same model as in Hugging Face form, and what is refused."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from oracles.transformer import Tensor, forward
from support.checkpoints import FAMILIES, LLAMA3, matrices, tiny_config, tiny_model, write_gguf
from support.checkpoints import write_hf as write_folder
from support.containers import read_gguf, read_hf, weights_of
from support.described import described
from support.layers import attention_of, has_post_norms, layer_of, mlp_of
from support.tiny_families import TINY_FAMILIES
from tonnage.core.checkpoint import Catalog
from tonnage.core.errors import TensorMismatchError, UnsupportedModelError
from tonnage.core.model_spec import ModelSpec
from tonnage.models.registry import spec_from_gguf, spec_from_hf
from tonnage.models.tensor_names import gguf_name

IDS = [3, 301, 17, 17, 250, 9, 44, 0, 306, 128, 5]
LINEAR = {"rope_type": "linear", "factor": 4.0}
TEMPERED = tiny_config("ministral3")["rope_parameters"]
SLIDING = ["sliding_attention", "full_attention", "sliding_attention"]
CASES = {
    **{family: tiny_config(family) for family in FAMILIES},
    "llama3 rope": tiny_config("llama", rope_theta=5e5, rope_scaling=LLAMA3),
    "llama linear rope, biases": tiny_config("llama", rope_scaling=LINEAR, attention_bias=True),
    "qwen2 untied, heads of 80": tiny_config("qwen2", tie_word_embeddings=False, head_dim=80),
    "gemma3 linear rope, pattern": tiny_config(
        "gemma3_text", rope_scaling=LINEAR, layer_types=SLIDING
    ),
    "ministral3, hot": tiny_config(
        "ministral3", rope_parameters={**TEMPERED, "original_max_position_embeddings": 4}
    ),
    "stablelm in parallel": tiny_config("stablelm", use_parallel_residual=True),
    "starcoder2 without biases": tiny_config("starcoder2", use_bias=False),
    "seed_oss with all biases": tiny_config("seed_oss", attention_out_bias=True, mlp_bias=True),
    "gemma2 heads of 256": tiny_config("gemma2", head_dim=256),
}


def logits_of(spec: ModelSpec) -> np.ndarray:
    return forward(described(spec), weights_of(spec), IDS)


@pytest.mark.parametrize("case", CASES)
def test_both_containers_hold_the_same_model(case: str, tmp_path: Path) -> None:
    model = tiny_model(CASES[case])
    from_hf = spec_from_hf(*read_hf(write_folder(tmp_path, model)))
    from_gguf = spec_from_gguf(*read_gguf(write_gguf(tmp_path / "m.gguf", model)))
    mine, other = logits_of(from_gguf), logits_of(from_hf)
    # Rope factors and norms with their 1 are float32 in the file; all else is the same numbers.
    eps = np.finfo(np.float32).eps if "rope_factors" in from_gguf.weights else 2**-52
    tolerance = eps * 40 * model["num_hidden_layers"] * math.sqrt(model["hidden_size"])
    assert np.abs(mine - other).max() < tolerance * np.abs(other).max()
    assert from_gguf.tied_head == from_hf.tied_head
    assert from_gguf.context_length == from_hf.context_length
    assert [attention_of(layer).window for layer in from_gguf.layers] == [
        attention_of(layer).window for layer in from_hf.layers
    ]
    assert [attention_of(layer).rope for layer in from_gguf.layers] == [
        attention_of(layer).rope for layer in from_hf.layers
    ]


def test_only_files_of_llama_and_its_likes_pair_neighbours(tmp_path: Path) -> None:
    styles = {}
    for family in FAMILIES:
        path = write_gguf(tmp_path / f"{family}.gguf", tiny_model(tiny_config(family)))
        styles[family] = {rope.style for rope in spec_from_gguf(*read_gguf(path)).ropes}
    for family, traits in TINY_FAMILIES.items():
        paired = traits.pairs_rows or traits.interleaved
        assert styles[family] == {"interleaved" if paired else "half"}


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_matrices_may_have_any_block_format(kind: str, tmp_path: Path) -> None:
    model = tiny_model(tiny_config("gemma3_text"))
    exact = logits_of(spec_from_gguf(*read_gguf(write_gguf(tmp_path / "exact.gguf", model))))
    spec = spec_from_gguf(*read_gguf(write_gguf(tmp_path / "m.gguf", model, matrices(kind))))
    kinds = {name: entry.format.name for name, entry in spec.weights.items()}
    assert {kinds["embed"], kinds["layers.0.q"], kinds["layers.2.down"]} == {kind}
    assert {kinds["final_norm"], kinds["layers.1.q_norm"]} == {"F32"}
    got = logits_of(spec)
    assert np.isfinite(got).all()
    assert (got == exact).all() == (kind in ("F16", "BF16"))


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma2"])
def test_v_smaller_than_k_is_v_without_its_zeros(family: str, tmp_path: Path) -> None:
    model = tiny_model(tiny_config(family, head_dim=64), v_dim=40)
    spec = spec_from_gguf(*read_gguf(write_gguf(tmp_path / "m.gguf", model)))
    assert (attention_of(spec.layers[0]).k_dim, attention_of(spec.layers[0]).v_dim) == (64, 40)
    wide = with_attention(spec, v_dim=64)
    padded = padded_rows(weights_of(spec), {"v": 2, "v_bias": 2, "o": 4}, 40, 64)
    np.testing.assert_allclose(
        logits_of(spec), forward(described(wide), padded, IDS), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize(("family", "style"), [("qwen2", "half"), ("llama", "interleaved")])
def test_k_smaller_than_v_is_k_without_its_zeros(family: str, style: str, tmp_path: Path) -> None:
    model = tiny_model(tiny_config(family, head_dim=48), v_dim=80)
    spec = spec_from_gguf(*read_gguf(write_gguf(tmp_path / "m.gguf", model)))
    assert (attention_of(spec.layers[0]).k_dim, attention_of(spec.layers[0]).v_dim) == (48, 80)
    assert spec.ropes[0].style == style
    # The wider model keeps the scale, and rotates 48 of its 80 elements.
    wide = with_attention(spec, k_dim=80)
    roles = {"q": 4, "k": 2, "q_bias": 4, "k_bias": 2}
    padded = padded_rows(weights_of(spec), roles, 48, 80)
    np.testing.assert_allclose(
        logits_of(spec), forward(described(wide), padded, IDS), rtol=0, atol=1e-12
    )


def with_attention(spec: ModelSpec, **changes: int) -> ModelSpec:
    layers = [
        layer_of(replace(attention_of(x), **changes), mlp_of(x), post_norms=has_post_norms(x))
        for x in spec.layers
    ]
    return replace(spec, layers=tuple(layers))


def padded_rows(tensor: Tensor, num_heads: dict[str, int], dim: int, new_dim: int) -> Tensor:
    """Return weights whose heads of `dim` end in zeros up to `new_dim`; of `o`, the columns."""

    def padded(name: str) -> np.ndarray:
        role = name.rpartition(".")[2]
        values = tensor(name).T if role == "o" else tensor(name)
        if role in num_heads:
            heads = values.reshape(num_heads[role], dim, -1)
            heads = np.pad(heads, ((0, 0), (0, new_dim - dim), (0, 0)))
            values = heads.reshape(-1, *values.shape[1:])
        return values.T if role == "o" else values

    return padded


class LazyArray:
    """An array of metadata that is read on demand."""

    def __init__(self, values: list[object]) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def to_list(self) -> list[object]:
        return self.values


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[dict, Catalog]]:
    folder = tmp_path_factory.mktemp("gguf")
    return {
        family: read_gguf(write_gguf(folder / f"{family}.gguf", tiny_model(tiny_config(family))))
        for family in FAMILIES
    }


def test_settings_may_be_lists_by_layer(opened: dict[str, tuple[dict, Catalog]]) -> None:
    metadata, catalog = opened["gemma3_text"]
    plain = spec_from_gguf(metadata, catalog)
    by_layer = {
        "gemma3.attention.head_count": LazyArray([4, 4, 4]),
        "gemma3.attention.head_count_kv": [2, 2, 2],
        "gemma3.feed_forward_length": LazyArray([160, 160, 160]),
        "gemma3.attention.sliding_window_pattern": LazyArray([True, False, True]),
    }
    spec = spec_from_gguf(metadata | by_layer, catalog)
    assert [attention_of(layer).window for layer in plain.layers] == [5, 5, 5]
    assert [attention_of(layer).window for layer in spec.layers] == [5, 0, 5]
    assert [attention_of(layer).rope for layer in spec.layers] == [1, 0, 1]
    assert [mlp_of(layer) for layer in spec.layers] == [mlp_of(layer) for layer in plain.layers]
    with pytest.raises(UnsupportedModelError, match=r"head_count is \[4, 4\].* 3 layers"):
        spec_from_gguf(metadata | {"gemma3.attention.head_count": [4, 4]}, catalog)


@pytest.mark.parametrize(
    ("pattern", "windows"), [(None, [5, 5, 5]), (2, [5, 0, 5]), (1, [0, 0, 0]), (0, [5, 5, 5])]
)
def test_window_pattern_counts_to_the_global_layer(
    opened: dict[str, tuple[dict, Catalog]], pattern: int | None, windows: list[int]
) -> None:
    metadata, catalog = opened["gemma3_text"]
    changed = {**metadata, "gemma3.attention.sliding_window_pattern": pattern}
    layers = spec_from_gguf(changed, catalog).layers
    assert [attention_of(layer).window for layer in layers] == windows


def test_gemma2_defaults(opened: dict[str, tuple[dict, Catalog]]) -> None:
    metadata, catalog = opened["gemma2"]
    optional = (
        "attention.sliding_window", "attn_logit_softcapping", "final_logit_softcapping",
        "attention.scale", "rope.freq_base",
    )  # fmt: skip
    bare = {k: v for k, v in metadata.items() if k.removeprefix("gemma2.") not in optional}
    spec = spec_from_gguf(bare, catalog)
    assert [attention_of(layer).window for layer in spec.layers] == [4096, 0, 4096]
    assert attention_of(spec.layers[0]).softcap == 50
    assert spec.final_softcap == 30
    assert attention_of(spec.layers[0]).scale == 64**-0.5
    assert spec.ropes[0].base == 10000
    assert spec.embed_scale == math.sqrt(96)
    assert spec.norm_offset == 0


@pytest.mark.parametrize(("family", "num_layers"), [("gemma2", 46), ("gemma3_text", 62)])
def test_the_27b_gemmas_scale_by_model_width(family: str, num_layers: int, tmp_path: Path) -> None:
    config = tiny_config(family, num_hidden_layers=num_layers, vocab_size=33, intermediate_size=32)
    metadata, catalog = read_gguf(write_gguf(tmp_path / "m.gguf", tiny_model(config)))
    bare = {key: value for key, value in metadata.items() if not key.endswith("attention.scale")}
    assert attention_of(spec_from_gguf(bare, catalog).layers[0]).scale == (96 / 4) ** -0.5


def test_keys_that_are_no_settings_are_passed_over(opened: dict[str, tuple[dict, Catalog]]) -> None:
    metadata, catalog = opened["llama"]
    noise = {"tokenizer.ggml.model": "gpt2", "general.url": "x", "quantize.imatrix.file": "y"}
    noise |= {"llama.tensor_data_layout": "Meta AI original pth", "llama.expert_count": 0}
    assert spec_from_gguf(metadata | noise, catalog) == spec_from_gguf(metadata, catalog)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"general.architecture": "mamba"}, r"'mamba'.*olmo2, phi3, qwen2, qwen3"),
        ({"general.architecture": None}, "general.architecture is 'None'"),
        ({"llama.expert_count": 8}, "llama.expert_count = 8"),
        ({"llama.rope.scaling.type": "mrope"}, "llama.rope.scaling.type is 'mrope'"),
        ({"llama.rope.scaling.yarn_ext_factor": 0.5}, "yarn_ext_factor = 0.5"),
        ({"llama.logit_scale": 2.0, "llama.x": 1}, "2 settings.*logit_scale = 2.0, llama.x = 1"),
        ({"llama.attention.causal": False}, "llama.attention.causal = False"),
        ({"llama.block_count": 2**31 - 1}, "block_count is 2147483647.*only 30 tensors"),
        ({"llama.block_count": 0}, "llama.block_count is 0"),
        ({"llama.block_count": "3"}, "llama.block_count is '3'"),
        ({"llama.embedding_length": None}, "llama.embedding_length is missing"),
        ({"llama.attention.head_count_kv": 3}, "head_count_kv is 3.*divisor of the 4"),
        ({"llama.rope.dimension_count": 66}, "dimension_count is 66.*at most the key length 64"),
        ({"llama.rope.dimension_count": 33}, "dimension_count is 33"),
        ({"llama.rope.freq_base": math.inf}, "freq_base is inf"),
        ({"llama.attention.layer_norm_rms_epsilon": True}, "epsilon is True"),
        ({"llama.attention.sliding_window_pattern": [1, "a", 0]}, None),
    ],
)
def test_settings_that_cannot_be_met_are_named(
    opened: dict[str, tuple[dict, Catalog]], change: dict[str, object], message: str | None
) -> None:
    metadata, catalog = opened["llama"]
    if message is None:
        assert spec_from_gguf(metadata | change, catalog)  # No window, so no pattern of it.
        return
    with pytest.raises(UnsupportedModelError, match=message):
        spec_from_gguf(metadata | change, catalog)


@pytest.mark.parametrize(
    "change",
    [
        {"leading_dense_block_count": 0, "expert_shared_count": 0, "expert_group_count": 0},
        {"nextn_predict_layers": 0, "interleave_moe_layer_step": 0, "expert_weights_norm": False},
        {"residual_scale": 1.0, "logit_scale": 0.0, "embedding_scale": 1.0},
        {"attention.clamp_kqv": 0.0, "attention.max_alibi_bias": 0.0, "swin_norm": False},
        {"attention.sliding_window": 0, "attn_logit_softcapping": 0.0},
        {"vocab_size": 5},
        {"vocab_size": 10_000},
    ],
)
def test_keys_that_switch_nothing_on_change_nothing(
    opened: dict[str, tuple[dict, Catalog]], change: dict[str, object]
) -> None:
    metadata, catalog = opened["llama"]
    changed = metadata | {f"llama.{key}": value for key, value in change.items()}
    assert spec_from_gguf(changed, catalog) == spec_from_gguf(metadata, catalog)


@pytest.mark.parametrize(
    "key", ["leading_dense_block_count", "residual_scale", "attention.clamp_kqv", "logit_scale"]
)
def test_the_same_keys_with_other_values_are_named(
    opened: dict[str, tuple[dict, Catalog]], key: str
) -> None:
    metadata, catalog = opened["llama"]
    with pytest.raises(UnsupportedModelError, match=f"llama.{key} = 3"):
        spec_from_gguf(metadata | {f"llama.{key}": 3}, catalog)


def test_any_layer_may_lack_any_bias(tmp_path: Path) -> None:
    model = tiny_model(tiny_config("llama", attention_bias=True))
    metadata, catalog = read_gguf(write_gguf(tmp_path / "m.gguf", model))
    whole = spec_from_gguf(metadata, catalog)
    lacking = {"layers.0.q_bias", "layers.0.k_bias", "layers.0.v_bias", "layers.0.o_bias",
               "layers.2.k_bias", "layers.2.o_bias"}  # fmt: skip
    kept = {n: t for n, t in catalog.tensors.items() if n not in set(map(gguf_name, lacking))}
    spec = spec_from_gguf(metadata, replace(catalog, tensors=kept))
    assert [attention_of(layer).biases for layer in spec.layers] == [
        (), ("q", "k", "v", "o"), ("q", "v"),
    ]  # fmt: skip
    stored = weights_of(whole)

    def zero_where_lacking(name: str) -> np.ndarray:
        return 0 * stored(name) if name in lacking else stored(name)

    expected = forward(described(whole), zero_where_lacking, IDS)
    np.testing.assert_array_equal(logits_of(spec), expected)


def test_how_states_become_a_vector(opened: dict[str, tuple[dict, Catalog]]) -> None:
    metadata, catalog = opened["qwen3"]
    assert spec_from_gguf(metadata, catalog).pooling is None
    for kind, pooling in ((0, None), (1, "mean"), (3, "last")):
        changed = {**metadata, "qwen3.pooling_type": kind}
        assert spec_from_gguf(changed, catalog).pooling == pooling
    for kind, name in ((2, "cls"), (4, "rank")):
        spec = spec_from_gguf({**metadata, "qwen3.pooling_type": kind}, catalog)
        assert (spec.pooling, spec.unmet_pooling) == (None, f"pooling_type {kind} ({name})")
    for wrong in (5, -1, "mean", [1], True):
        changed = {**metadata, "qwen3.pooling_type": wrong}
        with pytest.raises(UnsupportedModelError, match=r"qwen3\.pooling_type is .* must be"):
            spec_from_gguf(changed, catalog)


def test_gemma3_must_say_its_window(opened: dict[str, tuple[dict, Catalog]]) -> None:
    metadata, catalog = opened["gemma3_text"]
    bare = {key: value for key, value in metadata.items() if "sliding_window" not in key}
    with pytest.raises(
        UnsupportedModelError, match=r"gemma3\.attention\.sliding_window is missing"
    ):
        spec_from_gguf(bare, catalog)


def test_files_of_olmo3_are_told_by_their_window(opened: dict[str, tuple[dict, Catalog]]) -> None:
    metadata, catalog = opened["olmo3"]
    spec = spec_from_gguf(metadata, catalog)
    assert spec.family == "olmo3"
    assert [attention_of(layer).window for layer in spec.layers] == [6, 6, 6, 0, 6]
    assert [rope.base for rope in spec.ropes] == [5e5, 5e5]
    stretched = {"olmo2.rope.scaling.type": "linear", "olmo2.rope.scaling.factor": 4.0}
    ropes = spec_from_gguf(metadata | stretched | {"olmo2.rope.freq_base": 1e4}, catalog).ropes
    assert [(rope.base, rope.factor) for rope in ropes] == [(1e4, 4.0), (1e4, 1.0)]
    bare = {key: value for key, value in metadata.items() if "sliding_window" not in key}
    plain = spec_from_gguf(bare, catalog)
    assert (plain.family, len(plain.ropes)) == ("olmo2", 1)


def test_factors_of_files_that_are_off(opened: dict[str, tuple[dict, Catalog]]) -> None:
    metadata, catalog = opened["granite"]
    keys = ("embedding_scale", "residual_scale", "logit_scale")
    spec = spec_from_gguf(metadata, catalog)
    assert (spec.embed_scale, spec.layers[0].branches[1].scale) == (3.25, 0.21875)
    assert spec.logit_scale == 1 / 0.8125
    off = {f"granite.{key}": value for key, value in zip(keys, (0.0, None, 1.0), strict=True)}
    spec = spec_from_gguf(metadata | off, catalog)
    assert (spec.embed_scale, spec.layers[0].branches[1].scale, spec.logit_scale) == (1, 1, 1)


@pytest.mark.parametrize("key", ["embedding_scale", "residual_scale", "logit_scale"])
def test_files_of_minicpm_must_have_their_factors(
    opened: dict[str, tuple[dict, Catalog]], key: str
) -> None:
    metadata, catalog = opened["minicpm"]
    spec = spec_from_gguf(metadata, catalog)
    assert (spec.embed_scale, spec.layers[0].branches[0].scale) == (3.25, 0.75)
    assert spec.logit_scale == 64 / 96
    bare = {name: value for name, value in metadata.items() if name != f"minicpm.{key}"}
    with pytest.raises(UnsupportedModelError, match=rf"minicpm\.{key} is missing.*convert"):
        spec_from_gguf(bare, catalog)


def test_stablelm_without_a_second_norm_is_parallel(
    opened: dict[str, tuple[dict, Catalog]],
) -> None:
    metadata, catalog = opened["stablelm"]
    said = {**metadata, "stablelm.use_parallel_residual": True}
    assert not spec_from_gguf(said, catalog).layers[0].branches[1].parallel
    rest = {name: e for name, e in catalog.tensors.items() if "ffn_norm" not in name}
    spec = spec_from_gguf(metadata, replace(catalog, tensors=rest))
    assert [branch.parallel for branch in spec.layers[0].branches] == [False, True]


def test_all_tensors_that_do_not_fit_are_listed(opened: dict[str, tuple[dict, Catalog]]) -> None:
    metadata, catalog = opened["qwen2"]
    tensors = dict(catalog.tensors)
    del tensors["blk.0.attn_q.weight"], tensors["blk.2.ffn_up.weight"]
    tensors["blk.0.ssm_a"] = tensors["output_norm.weight"]
    tensors["blk.1.attn_k.bias"] = replace(tensors["blk.1.attn_k.bias"], shape=(47,))
    with pytest.raises(TensorMismatchError) as caught:
        spec_from_gguf(metadata, replace(catalog, tensors=tensors))
    text = str(caught.value)
    assert "2 missing: blk.0.attn_q.weight, blk.2.ffn_up.weight" in text
    assert "1 left over: blk.0.ssm_a" in text
    assert "1 wrong shape: blk.1.attn_k.bias has shape (47,) where (48,) is needed" in text


def test_a_bias_that_the_family_has_is_missed_and_any_other_may_be_there(tmp_path: Path) -> None:
    metadata, catalog = read_gguf(write_gguf(tmp_path / "q", tiny_model(tiny_config("qwen2"))))
    for role in "qkv":
        name = gguf_name(f"layers.1.{role}_bias")
        rest = {key: entry for key, entry in catalog.tensors.items() if key != name}
        with pytest.raises(TensorMismatchError, match=rf"1 missing: {name}"):
            spec_from_gguf(metadata, replace(catalog, tensors=rest))
    biased = tiny_model(tiny_config("llama", attention_bias=True))
    metadata, catalog = read_gguf(write_gguf(tmp_path / "l", biased))
    name = gguf_name("layers.1.o_bias")
    rest = {key: entry for key, entry in catalog.tensors.items() if key != name}
    spec = spec_from_gguf(metadata, replace(catalog, tensors=rest))
    assert [attention_of(layer).biases for layer in spec.layers] == [
        tuple("qkvo"), tuple("qkv"), tuple("qkvo"),
    ]  # fmt: skip


def test_inverse_frequencies_of_old_converters_are_passed_over(tmp_path: Path) -> None:
    metadata, catalog = read_gguf(write_gguf(tmp_path / "m", tiny_model(tiny_config("llama"))))
    plain = spec_from_gguf(metadata, catalog)
    stray = next(iter(catalog.tensors.values()))
    for name in ("blk.0.attn_rot_embd.weight", "blk.0.attn_rot_embd"):
        assert (
            spec_from_gguf(metadata, replace(catalog, tensors={**catalog.tensors, name: stray}))
            == plain
        )
    tensors = {**catalog.tensors, "blk.0.attn_rot.weight": stray}
    with pytest.raises(TensorMismatchError, match=r"1 left over: blk\.0\.attn_rot\.weight"):
        spec_from_gguf(metadata, replace(catalog, tensors=tensors))


@pytest.mark.parametrize(
    ("kind", "pooling", "unmet"),
    [(0, None, None), (1, "mean", None), (3, "last", None), (2, None, "cls"), (4, None, "rank")],
)
def test_a_file_says_how_its_states_become_one_vector(
    tmp_path: Path, kind: int, pooling: str | None, unmet: str | None
) -> None:
    metadata, catalog = read_gguf(write_gguf(tmp_path / "m", tiny_model(tiny_config("qwen3"))))
    spec = spec_from_gguf({**metadata, "qwen3.pooling_type": kind}, catalog)
    assert spec.pooling == pooling
    assert spec.unmet_pooling == ("" if unmet is None else f"pooling_type {kind} ({unmet})")
    with pytest.raises(
        UnsupportedModelError, match=r"0 \(none\), 1 \(mean\), 2 \(cls\), 3 \(last\)"
    ):
        spec_from_gguf({**metadata, "qwen3.pooling_type": 5}, catalog)
