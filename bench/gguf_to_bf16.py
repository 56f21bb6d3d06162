"""A Qwen2 GGUF file as a Hugging Face folder in bfloat16, for engines that read nothing else.

The weights are the dequantized ones, rounded to bfloat16; there is no tokenizer in the folder.
Run: python bench/gguf_to_bf16.py MODEL.gguf FOLDER
"""

import argparse
import json
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np

from support.layers import attention_of, mlp_of
from tonnage.core.model_spec import ModelSpec
from tonnage.formats.codec import dequantize
from tonnage.formats.gguf import GgufFile
from tonnage.models.registry import spec_from_gguf
from tonnage.models.tensor_names import HF_NAMES


def config_of(spec: ModelSpec) -> dict[str, object]:
    """Return the config.json of a Qwen2 model."""
    attention, mlp = attention_of(spec.layers[0]), mlp_of(spec.layers[0])
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "vocab_size": spec.vocab_size,
        "hidden_size": spec.d_model,
        "intermediate_size": mlp.hidden,
        "num_hidden_layers": len(spec.layers),
        "num_attention_heads": attention.num_heads,
        "num_key_value_heads": attention.num_kv_heads,
        "hidden_act": "silu",
        "max_position_embeddings": spec.context_length,
        "rms_norm_eps": spec.norm_eps,
        "rope_theta": spec.ropes[0].base,
        "tie_word_embeddings": spec.tied_head,
        "torch_dtype": "bfloat16",
        "use_sliding_window": False,
    }


def hf_name(name: str) -> str:
    """Return the Hugging Face name of a canonical one."""
    if name == "head":
        return "lm_head.weight"
    prefix, _, role = name.rpartition(".")
    return ".".join(part for part in ("model", prefix, HF_NAMES[role]) if part)


def to_bf16(values: np.ndarray) -> np.ndarray:
    """Return the bits of float32 `values` rounded to the nearest bfloat16, ties to even."""
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def write_weights(file: GgufFile, spec: ModelSpec, out: BinaryIO) -> None:
    """Write all weights as one safetensors file, a tensor at a time."""
    header: dict[str, object] = {}
    offset = 0
    for name, entry in spec.weights.items():
        size = 2 * int(np.prod(entry.shape))
        place = [offset, offset + size]
        header[hf_name(name)] = {"dtype": "BF16", "shape": entry.shape, "data_offsets": place}
        offset += size
    text = json.dumps(header).encode()
    out.write(struct.pack("<Q", len(text)) + text)
    for entry in spec.weights.values():
        values = dequantize(entry.format, file.tensor_buffer(entry.name), entry.shape)
        out.write(to_bf16(values).tobytes())


def convert(path: Path, folder: Path) -> None:
    """Write config.json and model.safetensors. Raises ValueError for another family."""
    with GgufFile.open(str(path)) as file:
        spec = spec_from_gguf(file.metadata, file.catalog)
        if spec.family != "qwen2":
            raise ValueError(f"{path} is of the family {spec.family}; only qwen2 is known here")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(config_of(spec), indent=1))
        with (folder / "model.safetensors").open("wb") as out:
            write_weights(file, spec, out)


def main() -> None:
    """Convert."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    convert(args.model, args.folder)


if __name__ == "__main__":
    main()
