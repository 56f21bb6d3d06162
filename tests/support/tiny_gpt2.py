"""Tiny random GPT-2, as a GGUF file and as the state of a model of transformers.

Folders of GPT-2 hold matrices as (in, out), GGUF files as all others do.
"""

from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

from support.checkpoints import Chooser, all_f32, on_bf16_grid
from support.tiny_tokenizer import NUM_BYTES, add_tokenizer

SIZES = {
    "as it is": {},
    "one layer, heads of 40": {"n_layer": 1, "n_head": 3, "n_embd": 120},
    "57 inner, 31 tokens": {"n_inner": 57, "vocab_size": 31},
    "seven layers, heads of 8": {"n_layer": 7, "n_embd": 64, "n_head": 8},
}
CONFIG = {
    "vocab_size": 307, "n_positions": 192, "n_embd": 96, "n_layer": 3, "n_head": 4,
    "layer_norm_epsilon": 2.0**-17,
}  # fmt: skip
ROLES = {
    "ln_1": "attn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
}  # fmt: skip


@dataclass(frozen=True)
class TinyGpt2:
    """Its config, and its weights by their names in GGUF files, matrices as (out, in)."""

    config: dict[str, object]
    weights: dict[str, np.ndarray]

    def state(self) -> dict[str, np.ndarray]:
        """Return the weights as transformers names them and lays them."""
        whole = {"token_embd": "wte", "position_embd": "wpe", "output_norm": "ln_f"}
        roles = {ours: theirs for theirs, ours in ROLES.items()}
        found = {}
        for name, values in self.weights.items():
            stem, _, kind = name.rpartition(".")
            if stem in whole:
                found[f"transformer.{whole[stem]}.{kind}"] = values
                continue
            _, index, role = stem.split(".")
            turned = np.ascontiguousarray(values.T)
            found[f"transformer.h.{index}.{roles[role]}.{kind}"] = turned
        return found


def tiny_gpt2(**changes: object) -> TinyGpt2:
    """Return random weights on the bfloat16 grid."""
    config = {**CONFIG, **changes}
    d, vocab = config["n_embd"], config["vocab_size"]
    hidden = config.get("n_inner") or 4 * d
    config["n_inner"] = hidden
    shapes = {"token_embd.weight": (vocab, d), "position_embd.weight": (config["n_positions"], d)}
    matrices = {"attn_qkv": (3 * d, d), "attn_output": (d, d), "ffn_up": (hidden, d),
                "ffn_down": (d, hidden)}  # fmt: skip
    for i in range(config["n_layer"]):
        for role, shape in matrices.items():
            shapes[f"blk.{i}.{role}.weight"] = shape
            shapes[f"blk.{i}.{role}.bias"] = shape[:1]
        for role in ("attn_norm", "ffn_norm"):
            shapes |= {f"blk.{i}.{role}.{kind}": (d,) for kind in ("weight", "bias")}
    shapes |= {f"output_norm.{kind}": (d,) for kind in ("weight", "bias")}
    rng = np.random.default_rng(0)
    return TinyGpt2(config, {name: _random(rng, name, shape) for name, shape in shapes.items()})


def _random(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    scale = 0.3 if len(shape) == 1 else 1.5 / np.sqrt(shape[-1])
    centre = 1.0 if name.endswith("norm.weight") else 0.0
    return on_bf16_grid((centre + scale * rng.standard_normal(shape)).astype(np.float32))


def write_gpt2(path: Path, model: TinyGpt2, choose: Chooser = all_f32) -> Path:
    """Write it as GGUF; choose: (name, shape) -> block format."""
    config, writer = model.config, gguf.GGUFWriter(path, "gpt2")
    writer.add_block_count(config["n_layer"])
    writer.add_context_length(config["n_positions"])
    writer.add_embedding_length(config["n_embd"])
    writer.add_feed_forward_length(config["n_inner"])
    writer.add_head_count(config["n_head"])
    writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    if config["vocab_size"] > NUM_BYTES:
        add_tokenizer(writer, config["vocab_size"])
    for name, values in model.weights.items():
        kind = gguf.GGMLQuantizationType[choose(name, values.shape)]
        if kind == gguf.GGMLQuantizationType.F32:
            writer.add_tensor(name, values)
        else:
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
