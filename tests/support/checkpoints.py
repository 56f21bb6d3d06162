"""Tiny random checkpoints of every family, as Hugging Face folders and as GGUF files.

No torch: the weights are numpy arrays under their Hugging Face names, and `safetensors` and
`gguf` write them. Values lie on the bfloat16 grid, and settings are exact in float32, so that both
containers hold the very same model.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import save

from oracles.rope import Llama3, inverse_frequencies
from support.tiny_families import COMMON, TINY_FAMILIES, TinyFamily
from support.tiny_families import FAMILIES as FAMILIES
from support.tiny_families import LLAMA3 as LLAMA3
from support.tiny_tokenizer import NUM_BYTES, add_tokenizer, write_tokenizer_json

Shape = tuple[int, ...]
Chooser = Callable[[str, Shape], str]
Encoder = Callable[[np.ndarray, gguf.GGMLQuantizationType], np.ndarray]


@dataclass(frozen=True)
class TinyModel:
    """A model: its config.json, its weights (HF name -> float32), the size of V's heads."""

    config: dict[str, object]
    weights: dict[str, np.ndarray]
    v_dim: int

    def __getitem__(self, key: str) -> int:
        value = self.config[key]
        assert isinstance(value, int)
        return value

    @property
    def family(self) -> str:
        """The model_type."""
        return str(self.config["model_type"])

    @property
    def traits(self) -> TinyFamily:
        """What is particular to its family."""
        return TINY_FAMILIES[self.family]

    @property
    def k_dim(self) -> int:
        """The size of a head of Q and K."""
        return _head_dim(self.config)


def tiny_config(family: str, **changes: object) -> dict[str, object]:
    """Return a config.json of `family` with odd sizes, some settings replaced."""
    traits = TINY_FAMILIES[family]
    if not traits.own_head_dim and changes.get("head_dim"):
        heads = changes.get("num_attention_heads", COMMON["num_attention_heads"])
        changes["hidden_size"] = changes.pop("head_dim") * heads
    config = {"model_type": family, **COMMON, **traits.settings, **changes}
    config = {key: value(config) if callable(value) else value for key, value in config.items()}
    return {traits.eps if key == "rms_norm_eps" else key: config[key] for key in config}


def tiny_model(
    config: Mapping[str, object], *, seed: int = 0, v_dim: int | None = None
) -> TinyModel:
    """Return random weights for `config`; v_dim: the size of V's heads, where it differs."""
    v_dim = v_dim or _head_dim(config)
    rng = np.random.default_rng(seed)
    shapes = tensor_shapes(config, v_dim)
    weights = {name: _random(rng, name, shape) for name, shape in shapes.items()}
    return TinyModel(dict(config), weights, v_dim)


def _head_dim(config: Mapping[str, object]) -> int:
    return config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]


def _random(rng: np.random.Generator, name: str, shape: Shape) -> np.ndarray:
    # Norms and biases are far from their neutral values, or a mistake in them would not show.
    scale = 0.3 if len(shape) == 1 else 1.5 / np.sqrt(shape[-1])
    centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
    return on_bf16_grid((centre + scale * rng.standard_normal(shape)).astype(np.float32))


def on_bf16_grid(values: np.ndarray) -> np.ndarray:
    """Return float32 values with the lower 16 bits cut, and 0 for what float16 cannot hold."""
    values = np.where(np.abs(values) < 2.0**-16, np.float32(0), values)
    return (values.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


def tensor_shapes(config: Mapping[str, object], v_dim: int | None = None) -> dict[str, Shape]:
    """Return the tensors of a model: HF name -> shape; v_dim: as of `tiny_model`."""
    v_dim = v_dim or _head_dim(config)
    d, vocab = config["hidden_size"], config["vocab_size"]
    shapes: dict[str, Shape] = {"model.embed_tokens.weight": (vocab, d), "model.norm.weight": (d,)}
    if TINY_FAMILIES[str(config["model_type"])].norm_biases:
        shapes["model.norm.bias"] = (d,)
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (vocab, d)
    for index in range(config["num_hidden_layers"]):
        layer = _layer_shapes(config, v_dim)
        shapes |= {f"model.layers.{index}.{name}": shape for name, shape in layer.items()}
    return shapes


FUSED = {
    "qkv": ("self_attn.qkv_proj", [f"self_attn.{role}_proj" for role in "qkv"]),
    "gate_up": ("mlp.gate_up_proj", ["mlp.gate_proj", "mlp.up_proj"]),
}


def _layer_shapes(config: Mapping[str, object], v_dim: int) -> dict[str, Shape]:
    d, hidden, k_dim = config["hidden_size"], config["intermediate_size"], _head_dim(config)
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    family = TINY_FAMILIES[str(config["model_type"])]
    rows = {"q": heads * k_dim, "k": kv_heads * k_dim, "v": kv_heads * v_dim, "o": d}
    shapes: dict[str, Shape] = {f"self_attn.{r}_proj.weight": (rows[r], d) for r in "qkv"}
    shapes["self_attn.o_proj.weight"] = (d, heads * v_dim)
    biased = family.biased(config)
    shapes |= {f"self_attn.{r}_proj.bias": (rows[r],) for r in "qkvo" if r in biased}
    if family.qk_norm != "none":
        size = {"head": {"q": k_dim, "k": k_dim}, "all": rows}[family.qk_norm]
        shapes |= {f"self_attn.{r}_norm.weight": (size[r],) for r in "qk"}
    *inner, down = family.mlp
    shapes |= {f"mlp.{name}.weight": (hidden, d) for name in inner}
    shapes[f"mlp.{down}.weight"] = (d, hidden)
    for part in family.fused:
        whole, parts = FUSED[part]
        fused_rows = sum(shapes.pop(f"{name}.weight")[0] for name in parts)
        shapes[f"{whole}.weight"] = (fused_rows, d)
    if "mlp" in biased:
        shapes |= {f"mlp.{name}.bias": (hidden,) for name in inner}
        shapes[f"mlp.{down}.bias"] = (d,)
    for norm in family.norms:
        if norm == "post_attention" and config.get("use_parallel_residual"):
            continue
        shapes[f"{norm}_layernorm.weight"] = (d,)
        if family.norm_biases:
            shapes[f"{norm}_layernorm.bias"] = (d,)
    for usual, name in family.renamed.items():
        shapes[f"{name}.weight"] = shapes.pop(f"{usual}.weight")
    return shapes


def write_hf(folder: Path, model: TinyModel, *, dtype: str = "F32", num_shards: int = 1) -> Path:
    """Write config.json, tokenizer.json and safetensors into `folder`; return it.

    dtype: F32, F16 or BF16.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(model.config))
    if model["vocab_size"] > NUM_BYTES:
        write_tokenizer_json(folder, model["vocab_size"])
    names = sorted(model.weights)
    shards = [names[first::num_shards] for first in range(num_shards)]
    files = [f"model-{i + 1:05}-of-{num_shards:05}.safetensors" for i in range(num_shards)]
    if num_shards == 1:
        files = ["model.safetensors"]
    for file, shard in zip(files, shards, strict=True):
        tensors = {name: model.weights[name] for name in shard}
        (folder / file).write_bytes(_safetensors(tensors, dtype))
    if num_shards > 1:
        where = {name: file for file, shard in zip(files, shards, strict=True) for name in shard}
        index = {"metadata": {}, "weight_map": where}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def _safetensors(tensors: Mapping[str, np.ndarray], dtype: str) -> bytes:
    if dtype != "BF16":
        kind = {"F32": np.float32, "F16": np.float16}[dtype]
        return save({name: values.astype(kind) for name, values in tensors.items()})
    # Numpy has no bfloat16: write its bits, then name them in the header.
    upper = {name: (values.view(np.uint32) >> 16) for name, values in tensors.items()}
    data = save({name: bits.astype(np.uint16) for name, bits in upper.items()})
    end = 8 + int.from_bytes(data[:8], "little")
    header = data[8:end].replace(b'"dtype":"U16"', b'"dtype":"BF16"').rstrip()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[end:]


GGUF_ROLES = {
    "self_attn.qkv_proj": "attn_qkv",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_up_proj": "ffn_up",
}


def all_f32(name: str, shape: Shape) -> str:
    """Choose F32 for every tensor."""
    return "F32"


def matrices(kind: str) -> Chooser:
    """Return a chooser: `kind` for matrices whose rows it divides, F32 for the rest."""
    block = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]][0]
    return lambda name, shape: kind if len(shape) > 1 and shape[-1] % block == 0 else "F32"


def write_gguf(
    path: Path,
    model: TinyModel,
    choose: Chooser = all_f32,
    encode: Encoder = gguf.quants.quantize,
) -> Path:
    """Write the same model as GGUF.

    choose: (GGUF name, shape) -> block format. encode: (float32 values, block format other than
    F32) -> rows of bytes.
    """
    writer = gguf.GGUFWriter(path, model.traits.gguf_architecture)
    _add_metadata(writer, model)
    if model["vocab_size"] > NUM_BYTES:
        add_tokenizer(writer, model["vocab_size"])
    for name, values in _apart(model):
        new_name = gguf_tensor_name(model, name)
        kind = gguf.GGMLQuantizationType[choose(new_name, values.shape)]
        values = _as_gguf(model, name, values)
        if kind == gguf.GGMLQuantizationType.F32:
            writer.add_tensor(new_name, values)
        else:
            writer.add_tensor(new_name, encode(values, kind), raw_dtype=kind)
    factors = llama3_factors(model)
    if factors is not None:
        writer.add_tensor("rope_freqs.weight", factors)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _apart(model: TinyModel) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the weights by their usual names, gate and up apart where files have them so."""
    usual = {name: usual for usual, name in model.traits.renamed.items()}
    for name, values in model.weights.items():
        layer, found = next(((name.split(one)[0], one) for one in usual if one in name), ("", ""))
        if found and usual[found] == "mlp.gate_up_proj":
            gate, up = np.split(values, 2)
            yield f"{layer}mlp.gate_proj.weight", gate
            yield f"{layer}mlp.up_proj.weight", up
        else:
            yield (name.replace(found, usual[found]) if found else name), values


def gguf_tensor_name(model: TinyModel, name: str) -> str:
    """Return the GGUF name of a tensor with the Hugging Face name `name`."""
    whole = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    stem, _, kind = name.rpartition(".")
    if stem in whole:
        return f"{whole[stem]}.{kind}"
    index, _, role = stem.removeprefix("model.layers.").partition(".")
    roles = GGUF_ROLES | {f"mlp.{hf}": name for hf, name in model.traits.mlp.items()}
    roles |= {f"{hf}_layernorm": name for hf, name in model.traits.norms.items()}
    return f"blk.{index}.{roles[role]}.{kind}"


def _as_gguf(model: TinyModel, name: str, values: np.ndarray) -> np.ndarray:
    if model.traits.adds_one and "norm" in name and name.endswith("weight"):
        return values + np.float32(1)
    for role, heads in (("q_proj", "num_attention_heads"), ("k_proj", "num_key_value_heads")):
        if model.traits.pairs_rows and role in name:
            return halves_to_pairs(values, model[heads])
    return np.ascontiguousarray(values)


def halves_to_pairs(rows: np.ndarray, num_heads: int) -> np.ndarray:
    """Reorder each head's rows: element i of the second half moves next to i of the first."""
    split = rows.reshape(num_heads, 2, -1, *rows.shape[1:])
    return np.ascontiguousarray(split.swapaxes(1, 2).reshape(rows.shape))


def llama3_factors(model: TinyModel) -> np.ndarray | None:
    """Return what converters write as rope_freqs.weight: unscaled over scaled frequencies."""
    rope = {
        **(model.config.get("rope_scaling") or {}),
        **(model.config.get("rope_parameters") or {}),
    }
    if rope.get("rope_type") != "llama3":
        return None
    base = float(rope.get("rope_theta", model.config.get("rope_theta", 1e4)))
    numbers = (rope["factor"], rope["low_freq_factor"], rope["high_freq_factor"])
    scaling = Llama3(*numbers, rope["original_max_position_embeddings"])
    plain = inverse_frequencies(model.k_dim, base)
    return (plain / inverse_frequencies(model.k_dim, base, llama3=scaling)).astype(np.float32)


# Setting -> method of the writer.
SCALES = {
    "embedding_multiplier": "add_embedding_scale",
    "residual_multiplier": "add_residual_scale",
    "attention_multiplier": "add_attention_scale",
    "logits_scaling": "add_logit_scale",
    "logit_scale": "add_logit_scale",
}
YARN = {
    "factor": "add_rope_scaling_factor",
    "original_max_position_embeddings": "add_rope_scaling_orig_ctx_len",
    "beta_fast": "add_rope_scaling_yarn_beta_fast",
    "beta_slow": "add_rope_scaling_yarn_beta_slow",
    "mscale_all_dim": "add_rope_scaling_yarn_log_mul",
    "llama_4_scaling_beta": "add_attn_temperature_scale",
}


def _add_metadata(writer: gguf.GGUFWriter, model: TinyModel) -> None:
    config = model.config
    writer.add_name("tiny")
    writer.add_block_count(model["num_hidden_layers"])
    writer.add_context_length(model["max_position_embeddings"])
    writer.add_embedding_length(model["hidden_size"])
    writer.add_feed_forward_length(model["intermediate_size"])
    writer.add_head_count(model["num_attention_heads"])
    writer.add_head_count_kv(model["num_key_value_heads"])
    if model.traits.eps == "rms_norm_eps":
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    else:
        writer.add_layer_norm_eps(config[model.traits.eps])
    writer.add_vocab_size(model["vocab_size"])
    writer.add_key_length(model.k_dim)
    writer.add_value_length(model.v_dim)
    if "partial_rotary_factor" in config:
        writer.add_rope_dimension_count(int(model.k_dim * config["partial_rotary_factor"]))
    _add_rope(writer, model)
    if model.traits.settings.get("sliding_window") and config["sliding_window"]:
        writer.add_sliding_window(model["sliding_window"])
    if "query_pre_attn_scalar" in config:
        writer.add_attention_scale(model["query_pre_attn_scalar"] ** -0.5)
    if config.get("position_embedding_type", "rope") != "rope":
        writer.add_rope_scaling_finetuned(False)
    if "scale_depth" in config:
        writer.add_embedding_scale(config["scale_emb"])
        writer.add_residual_scale(config["scale_depth"] / model["num_hidden_layers"] ** 0.5)
        writer.add_logit_scale(model["hidden_size"] / config["dim_model_base"])
    for key, add in SCALES.items():
        if key in config:
            getattr(writer, add)(config[key])
    if "attn_logit_softcapping" in config:
        writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
        writer.add_final_logit_softcapping(config["final_logit_softcapping"])
    if "layer_types" in config and model.traits.settings.get("sliding_window"):
        slides = [kind == "sliding_attention" for kind in config["layer_types"]]
        writer.add_sliding_window_pattern(slides)


def _add_rope(writer: gguf.GGUFWriter, model: TinyModel) -> None:
    config = model.config
    parameters = config.get("rope_parameters") or {}
    writer.add_rope_freq_base(parameters.get("rope_theta", config.get("rope_theta", 1e4)))
    if parameters.get("rope_type") == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        for key in YARN.keys() & parameters.keys():
            getattr(writer, YARN[key])(parameters[key])
    if "rope_local_base_freq" in config:
        key = gguf.Keys.Rope.FREQ_BASE_SWA.format(arch=writer.arch)
        writer.add_float32(key, config["rope_local_base_freq"])
    scaling = config.get("rope_scaling") or {}
    if scaling.get("rope_type") == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(scaling["factor"])
