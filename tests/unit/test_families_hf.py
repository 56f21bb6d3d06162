"""Families read from config.json: its old and new forms, and what is refused."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import tokenizers

from support.checkpoints import FAMILIES, LLAMA3, tiny_config, tiny_model, write_gguf, write_hf
from support.containers import read_gguf, read_hf, read_tensor
from support.layers import attention_of, has_post_norms, has_pre_norms, mlp_of
from support.tiny_families import TINY_FAMILIES
from tonnage.core.checkpoint import Catalog
from tonnage.core.errors import TensorMismatchError, UnsupportedModelError
from tonnage.models.registry import spec_from_hf

# Layers with a window rotate by a rope of their own.
TWO_ROPES = ("gemma3_text", "olmo3")
ACTIVATIONS = {"silu": "silu", "gelu_pytorch_tanh": "gelu_tanh", "relu2": "relu2"}
LLLG = [*["sliding_attention"] * 3, "full_attention", "sliding_attention"]
Opened = dict[str, tuple[dict, Catalog]]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    folder = tmp_path_factory.mktemp("hf")
    return {
        family: read_hf(write_hf(folder / family, tiny_model(tiny_config(family))))
        for family in FAMILIES
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_described(opened: Opened, family: str) -> None:
    config, traits = opened[family][0], TINY_FAMILIES[family]
    spec = spec_from_hf(*opened[family])
    is_gemma = family.startswith("gemma")
    attention = attention_of(spec.layers[0])
    own = {"gemma3_text": "gemma3", "granitemoehybrid": "granite4"}
    assert spec.family == own.get(family, family)
    assert (spec.vocab_size, spec.d_model) == (307, config["hidden_size"])
    assert spec.context_length == 512
    assert len(spec.layers) == config["num_hidden_layers"]
    assert (attention.num_heads, attention.num_kv_heads) == (4, 2)
    assert spec.tied_head == config["tie_word_embeddings"]
    stated = config.get("embedding_multiplier", config.get("scale_emb", 1))
    assert spec.embed_scale == (math.sqrt(96) if is_gemma else stated)
    assert spec.norm_offset == traits.adds_one
    assert has_pre_norms(spec.layers[0]) == ("input" in traits.norms)
    assert has_post_norms(spec.layers[0]) == bool(
        {"post_feedforward", "post_mlp"} & {*traits.norms}
    )
    named = config.get("hidden_activation") or config["hidden_act"]
    assert mlp_of(spec.layers[0]).activation == ACTIVATIONS[named]
    assert attention.qk_norm == traits.qk_norm
    assert {*attention.biases} == traits.biased(config) - {"mlp"}
    assert len(spec.ropes) == (2 if family in TWO_ROPES else 1)
    assert all((rope.style == "interleaved") == traits.interleaved for rope in spec.ropes)


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_shards_and_half_floats_hold_the_same(dtype: str, tmp_path: Path) -> None:
    model = tiny_model(tiny_config("qwen3"))
    folder = write_hf(tmp_path, model, dtype=dtype, num_shards=3)
    config, catalog = read_hf(folder)
    spec = spec_from_hf(config, catalog)
    assert len(catalog.files) == 3
    assert {entry.format.name for entry in spec.weights.values()} == {dtype}
    name = "model.layers.1.self_attn.k_proj.weight"
    assert (read_tensor(spec.weights["layers.1.k"]) == model.weights[name]).all()


@pytest.mark.parametrize(
    ("family", "change", "windows"),
    [
        ("llama", {}, [0, 0, 0]),
        ("mistral", {}, [6, 6, 6]),
        ("mistral", {"sliding_window": None}, [0, 0, 0]),
        ("qwen2", {"sliding_window": 8, "max_window_layers": 0}, [0, 0, 0]),
        ("qwen2", {"use_sliding_window": True, "max_window_layers": 2}, [0, 0, 4096]),
        ("qwen3", {"use_sliding_window": True, "max_window_layers": 0}, [4096] * 3),
        ("qwen3", {"layer_types": ["full_attention"] * 3}, [0, 0, 0]),
        # Where a window is switched on, layers without a rotary embedding have it.
        ("smollm3", {"use_sliding_window": True, "sliding_window": 7}, [0, 0, 0, 7, 0]),
        ("smollm3", {"sliding_window": 7}, [0] * 5),
        ("gemma2", {}, [5, 0, 5]),
        ("gemma3_text", {}, [5, 5, 5]),
        ("gemma3_text", {"sliding_window_pattern": 3}, [5, 5, 0]),
        ("gemma3_text", {"_sliding_window_pattern": 3}, [5, 5, 0]),
        (
            "gemma3_text",
            {"layer_types": ["full_attention", "sliding_attention", "full_attention"]},
            [0, 5, 0],
        ),
    ],
)
def test_windows(opened: Opened, family: str, change: dict, windows: list[int]) -> None:
    config, catalog = opened[family]
    layers = spec_from_hf(config | change, catalog).layers
    assert [attention_of(layer).window for layer in layers] == windows


def test_absent_settings_have_the_family_default(opened: Opened) -> None:
    config, catalog = opened["mistral"]
    del (bare := dict(config))["sliding_window"]
    assert attention_of(spec_from_hf(bare, catalog).layers[0]).window == 4096
    config, catalog = opened["gemma2"]
    bare = {key: value for key, value in config.items() if "softcapping" not in key}
    spec = spec_from_hf(bare, catalog)
    assert (attention_of(spec.layers[0]).softcap, spec.final_softcap) == (50, 30)
    none = {"attn_logit_softcapping": None, "final_logit_softcapping": None}
    spec = spec_from_hf(config | none, catalog)
    assert (attention_of(spec.layers[0]).softcap, spec.final_softcap) == (0, 0)


def test_old_and_new_rope_forms_mean_the_same(opened: Opened) -> None:
    config, catalog = opened["llama"]
    old = spec_from_hf(config | {"rope_theta": 5e5, "rope_scaling": LLAMA3}, catalog)
    new = spec_from_hf(config | {"rope_parameters": {**LLAMA3, "rope_theta": 5e5}}, catalog)
    assert old == new
    assert old.ropes[0].llama3 == (8.0, 1.0, 4.0, 64)
    config, catalog = opened["gemma3_text"]
    linear = {"rope_type": "linear", "factor": 8.0}
    old = spec_from_hf(config | {"rope_scaling": linear}, catalog)
    both = {
        "full_attention": {**linear, "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    }
    bare = {key: value for key, value in config.items() if not key.startswith("rope_")}
    assert spec_from_hf(bare | {"rope_parameters": both}, catalog) == old
    assert [(rope.base, rope.factor) for rope in old.ropes] == [(1e6, 8.0), (1e4, 1.0)]


@pytest.mark.parametrize("root", ["language_model.model.", "model.language_model."])
def test_gemma3_with_a_vision_tower_is_read_without_it(opened: Opened, root: str) -> None:
    config, catalog = opened["gemma3_text"]
    plain = spec_from_hf(config, catalog)
    tensors = {name.replace("model.", root, 1): e for name, e in catalog.tensors.items()}
    stray = next(iter(catalog.tensors.values()))
    tensors["vision_tower.patch.weight"] = tensors["multi_modal_projector.w"] = stray
    wrapper = {
        "model_type": "gemma3",
        "architectures": ["Gemma3ForConditionalGeneration"],
        "text_config": config,
        "vision_config": {"hidden_size": 1152},
        "mm_tokens_per_image": 256,
    }
    spec = spec_from_hf(wrapper, replace(catalog, tensors=tensors))
    assert spec == plain
    with pytest.raises(UnsupportedModelError, match="audio_config"):
        spec_from_hf(wrapper | {"audio_config": {"x": 1}}, replace(catalog, tensors=tensors))
    off = wrapper | {"audio_config": {}, "tie_word_embeddings": True}
    assert spec_from_hf(off, replace(catalog, tensors=tensors)) == plain
    with pytest.raises(TensorMismatchError, match=r"1 missing: .*lm_head"):
        spec_from_hf(wrapper | {"tie_word_embeddings": False}, replace(catalog, tensors=tensors))


def test_ministral3_with_a_vision_tower_is_read_without_it(opened: Opened) -> None:
    config, catalog = opened["ministral3"]
    tensors = {
        name.replace("model.", "model.language_model.", 1): e for name, e in catalog.tensors.items()
    }
    tensors["model.vision_tower.patch.weight"] = next(iter(catalog.tensors.values()))
    wrapper = {
        "model_type": "mistral3",
        "architectures": ["Mistral3ForConditionalGeneration"],
        "text_config": config,
        "vision_config": {"hidden_size": 1024},
        "projector_hidden_act": "gelu",
        "multimodal_projector_bias": False,
        "spatial_merge_size": 2,
        "vision_feature_layer": -1,
    }
    spec = spec_from_hf(wrapper, replace(catalog, tensors=tensors))
    assert spec == spec_from_hf(config, catalog)
    assert attention_of(spec.layers[0]).temperature == 0.125
    assert attention_of(spec.layers[0]).temperature_tokens == 16


@pytest.mark.parametrize(
    ("family", "stray"),
    [
        (
            "cohere2",
            {
                "cache_implementation": "hybrid", "head_dim": 24, "layer_switch": 4,
                "order_of_interleaved_layers": "local_attn_first", "rotary_pct": 1.0,
                "position_embedding_type": "rope_gptj", "use_embedding_sharing": True,
                "use_gated_activation": True, "use_parallel_block": True,
                "use_parallel_embedding": False,
            },
        ),
        ("starcoder2", {"mlp_type": "default", "norm_type": "layer_norm"}),
        ("nemotron", {"rope_percent": 0.5}),
        (
            "granitemoehybrid",
            {
                "init_method": "mup", "normalization_function": "rmsnorm", "mamba_d_conv": 4,
                "num_experts_per_tok": 0, "router_aux_loss_coef": 0.01, "mamba_d_head": 64,
            },
        ),
        ("seed_oss", {"residual_dropout": 0.1, "rope_scaling": {"rope_type": "default"}}),
        ("exaone4", {"sliding_window_pattern": "LLLG", "layer_types": LLLG}),
    ],
)  # fmt: skip
def test_what_published_files_say_beside_changes_nothing(
    opened: Opened, family: str, stray: dict
) -> None:
    config, catalog = opened[family]
    assert spec_from_hf(config | stray, catalog) == spec_from_hf(config, catalog)


@pytest.mark.parametrize(
    ("family", "change", "message"),
    [
        ("stablelm", {"qk_layernorm": True}, "qk_layernorm = True"),
        ("cohere", {"use_qk_norm": True}, "use_qk_norm = True"),
        ("llama", {"rope_parameters": {"llama_4_scaling_beta": 0.1}}, "llama_4_scaling_beta = 0.1"),
        ("llama", {"use_parallel_residual": True}, "use_parallel_residual = True"),
        ("llama", {"residual_multiplier": 0.5}, "residual_multiplier = 0.5"),
        ("granite", {"logits_scaling": -1.0}, "logits_scaling is -1.0"),
        ("ministral3", {"rope_parameters": {"llama_4_scaling_beta": "x"}}, "beta is 'x'"),
    ],
)
def test_what_neighbours_have_and_is_not_implemented_is_named(
    opened: Opened, family: str, change: dict, message: str
) -> None:
    config, catalog = opened[family]
    with pytest.raises(UnsupportedModelError, match=message):
        spec_from_hf(config | change, catalog)


def test_what_old_checkpoints_hold_twice_is_passed_over(opened: Opened) -> None:
    config, catalog = opened["qwen2"]
    tensors = dict(catalog.tensors)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = tensors["model.norm.weight"]
    assert spec_from_hf(config, replace(catalog, tensors=tensors)).tied_head
    with pytest.raises(TensorMismatchError, match=r"1 left over: lm_head2\.weight"):
        spec_from_hf(
            config,
            replace(catalog, tensors=tensors | {"lm_head2.weight": tensors["lm_head.weight"]}),
        )


def test_all_tensors_that_do_not_fit_are_listed(opened: Opened) -> None:
    config, catalog = opened["llama"]
    with pytest.raises(TensorMismatchError) as caught:
        spec_from_hf(config | {"vocab_size": 308, "attention_bias": True}, catalog)
    text = str(caught.value)
    assert "12 missing: model.layers.0.self_attn.q_proj.bias, " in text
    assert "model.layers.2.self_attn.o_proj.bias" in text
    assert "2 wrong shape: model.embed_tokens.weight has shape (307, 96) where (308, 96)" in text
    tensors = dict(catalog.tensors)
    tensors["x.lm_head.weight"] = tensors.pop("lm_head.weight")
    with pytest.raises(TensorMismatchError, match=r"1 missing: lm_head\.weight; 1 left over: x\."):
        spec_from_hf(config, replace(catalog, tensors=tensors))


@pytest.mark.parametrize(
    ("family", "change", "message"),
    [
        ("llama", {"model_type": "mixtral"}, r"'mixtral'.*gemma2, gemma3, gemma3_text, .*llama"),
        ("llama", {"model_type": ["llama"]}, "which is not implemented"),
        ("llama", {"hidden_act": "relu"}, "hidden_act is 'relu'; it must be one of gelu, gelu_acc"),
        ("llama", {"hidden_act": None}, "hidden_act is missing"),
        ("llama", {"bias": True, "moe": 8}, "2 settings .* bias = True, moe = 8"),
        ("llama", {"quantization_config": {"bits": 4}}, "quantization_config = {'bits': 4}"),
        ("llama", {"rope_scaling": {"type": "mrope"}}, "rope_scaling.type is 'mrope'"),
        ("llama", {"rope_scaling": {"rope_type": "dynamic"}}, "rope_scaling.factor is missing"),
        ("llama", {"rope_scaling": {"rope_type": "linear"}}, "rope_scaling.factor is missing"),
        ("llama", {"rope_scaling": {**LLAMA3, "beta": 3}}, "rope_scaling.beta = 3"),
        ("llama", {"rope_scaling": LLAMA3 | {"low_freq_factor": 4.0}}, "low_freq_factor is 4.0"),
        ("llama", {"rope_scaling": "linear"}, "rope_scaling is 'linear'; it must be a table"),
        ("llama", {"rope_parameters": {"full_attention": {}}}, "rope_parameters.full_attention"),
        ("llama", {"rope_theta": 5e-324}, "rope_theta is 5e-324; it must be .* at least 1"),
        ("llama", {"rope_theta": 10**400}, "rope_theta is 1000"),
        ("llama", {"partial_rotary_factor": 0.3}, "partial_rotary_factor .*an even part of a head"),
        ("llama", {"hidden_size": None}, "hidden_size is missing"),
        ("llama", {"hidden_size": -96}, "hidden_size is -96"),
        ("llama", {"num_key_value_heads": 3}, "num_key_value_heads is 3.*divisor of the 4"),
        ("llama", {"num_attention_heads": 10, "head_dim": None}, "divisor of hidden_size 96"),
        ("llama", {"head_dim": 63}, "head_dim is 63"),
        ("llama", {"rms_norm_eps": math.nan}, "rms_norm_eps is nan"),
        ("llama", {"num_hidden_layers": 10**12}, "num_hidden_layers is 1000000000000"),
        ("llama", {"num_hidden_layers": 10**6}, "num_hidden_layers is 1000000, .*only 30 tensors"),
        ("llama", {"tie_word_embeddings": "no"}, "tie_word_embeddings is 'no'"),
        ("llama", {"layer_types": ["full_attention"] * 3}, r"layer_types = \['full_attention'"),
        ("mistral", {"attention_bias": True}, "attention_bias = True"),
        (
            "qwen3",
            {"layer_types": ["sliding_attention"] * 3},
            "use_sliding_window is False; it must be true when layer_types has sliding_attention",
        ),
        (
            "gemma2",
            {"layer_types": ["linear_attention"] * 3},
            "layer_types is .*a list of full_attention and sliding_attention",
        ),
        ("gemma2", {"layer_types": ["full_attention"] * 2}, "one for each of the 3 layers"),
        ("gemma2", {"hidden_activation": "relu"}, "hidden_activation is 'relu'"),
        ("gemma3_text", {"use_bidirectional_attention": True}, "bidirectional_attention = True"),
        ("gemma3_text", {"rope_parameters": {"rope_theta": 1e6}}, "rope_theta = 1000000.0"),
    ],
)
def test_settings_that_cannot_be_met_are_named(
    opened: Opened, family: str, change: dict, message: str
) -> None:
    config, catalog = opened[family]
    with pytest.raises(UnsupportedModelError, match=message):
        spec_from_hf(config | change, catalog)


@pytest.mark.parametrize("size", [257, 307, 600])
def test_the_tiny_tokenizer_is_one(size: int, tmp_path: Path) -> None:
    model = tiny_model(tiny_config("llama", vocab_size=size, num_hidden_layers=1))
    tokenizer = tokenizers.Tokenizer.from_file(str(write_hf(tmp_path, model) / "tokenizer.json"))
    metadata, _ = read_gguf(write_gguf(tmp_path / "m.gguf", model))
    text = "the tea is not hot, naïve 船\n<|end|>"
    ids = tokenizer.encode(text).ids
    assert ids[-1] == 256
    assert tokenizer.decode(ids, skip_special_tokens=False) == text
    assert tokenizer.get_vocab_size() == size
    tokens = metadata["tokenizer.ggml.tokens"]
    assert {token: index for index, token in enumerate(tokens)} == tokenizer.get_vocab()
