"""Names of the tensors in each container, their shapes, and the match against a catalog.

GGUF names follow the GGUF specification ("Standardized tensor names"), Hugging Face names the
modules of transformers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import prod
from types import MappingProxyType

from tonnage.core.block import Layer, Shape
from tonnage.core.block_format import SCALED_FORMATS
from tonnage.core.checkpoint import Catalog, TensorEntry
from tonnage.core.errors import TensorMismatchError, UnsupportedModelError
from tonnage.core.model_spec import scale_name
from tonnage.core.operands import NormKind

GGUF_NAMES = {
    "embed": "token_embd.weight",
    "head": "output.weight",
    "positions": "position_embd.weight",
    "final_norm": "output_norm.weight",
    "final_norm_bias": "output_norm.bias",
    "rope_factors": "rope_freqs.weight",
    "rope_factors_short": "rope_factors_short.weight",
    "rope_factors_long": "rope_factors_long.weight",
    "attn_norm": "attn_norm.weight",
    "attn_norm_bias": "attn_norm.bias",
    "qkv": "attn_qkv.weight",
    "qkv_bias": "attn_qkv.bias",
    "q": "attn_q.weight",
    "k": "attn_k.weight",
    "v": "attn_v.weight",
    "o": "attn_output.weight",
    "q_bias": "attn_q.bias",
    "k_bias": "attn_k.bias",
    "v_bias": "attn_v.bias",
    "o_bias": "attn_output.bias",
    "q_norm": "attn_q_norm.weight",
    "k_norm": "attn_k_norm.weight",
    "post_attn_norm": "post_attention_norm.weight",
    "mlp_norm": "ffn_norm.weight",
    "mlp_norm_bias": "ffn_norm.bias",
    "gate_up": "ffn_up.weight",
    "gate": "ffn_gate.weight",
    "up": "ffn_up.weight",
    "down": "ffn_down.weight",
    "gate_bias": "ffn_gate.bias",
    "up_bias": "ffn_up.bias",
    "down_bias": "ffn_down.bias",
    "post_mlp_norm": "post_ffw_norm.weight",
}
HF_NAMES = {
    "embed": "embed_tokens.weight",
    "final_norm": "norm.weight",
    "final_norm_bias": "norm.bias",
    "attn_norm": "input_layernorm.weight",
    "attn_norm_bias": "input_layernorm.bias",
    "qkv": "self_attn.qkv_proj.weight",
    "qkv_bias": "self_attn.qkv_proj.bias",
    "q": "self_attn.q_proj.weight",
    "k": "self_attn.k_proj.weight",
    "v": "self_attn.v_proj.weight",
    "o": "self_attn.o_proj.weight",
    "q_bias": "self_attn.q_proj.bias",
    "k_bias": "self_attn.k_proj.bias",
    "v_bias": "self_attn.v_proj.bias",
    "o_bias": "self_attn.o_proj.bias",
    "q_norm": "self_attn.q_norm.weight",
    "k_norm": "self_attn.k_norm.weight",
    "mlp_norm": "post_attention_layernorm.weight",
    "mlp_norm_bias": "post_attention_layernorm.bias",
    "gate_up": "mlp.gate_up_proj.weight",
    "gate": "mlp.gate_proj.weight",
    "up": "mlp.up_proj.weight",
    "down": "mlp.down_proj.weight",
    "gate_bias": "mlp.gate_proj.bias",
    "up_bias": "mlp.up_proj.bias",
    "down_bias": "mlp.down_proj.bias",
}
HF_POST_NORM_NAMES = {
    **HF_NAMES,
    "post_attn_norm": "post_attention_layernorm.weight",
    "mlp_norm": "pre_feedforward_layernorm.weight",
    "post_mlp_norm": "post_feedforward_layernorm.weight",
}


def gguf_name(canonical: str, own: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return the name in a GGUF of the tensor `canonical`, as named in ModelSpec.

    own: roles that a family names in its own way.
    """
    layer, _, role = canonical.rpartition(".")
    name = own.get(role) or GGUF_NAMES[role]
    return layer.replace("layers.", "blk.") + "." * bool(layer) + name


def hf_name(canonical: str, names: Mapping[str, str]) -> str:
    """Return the name in a Hugging Face checkpoint, within the module that holds the layers.

    names: those of `hf_names`. The head lies outside that module.
    """
    layer, _, role = canonical.rpartition(".")
    return layer + "." * bool(layer) + names[role]


def expected_shapes(
    vocab_size: int, d_model: int, layers: Sequence[Layer], norm: NormKind
) -> dict[str, Shape]:
    """Return canonical name -> shape of every tensor but `head` and `rope_factors`."""
    shapes: dict[str, Shape] = {"embed": (vocab_size, d_model), "final_norm": (d_model,)}
    if norm == "biased layer":
        shapes["final_norm_bias"] = (d_model,)
    for index, layer in enumerate(layers):
        for role, shape in layer.tensors(d_model).items():
            shapes[f"layers.{index}.{role}"] = shape
    return shapes


def check_layer_count(num_layers: int, key: str, catalog: Catalog) -> None:
    """Raise UnsupportedModelError when there are fewer tensors than layers.

    Layers are lists from here on, so an absurd count must not get further.
    """
    if num_layers > len(catalog.tensors):
        raise UnsupportedModelError(
            f"The setting {key} is {num_layers}, but the checkpoint holds only "
            f"{len(catalog.tensors)} tensors. It is damaged or incomplete: download it again."
        )


# What stands in place of `.weight` where scales lie in a tensor of their own: of folders (block
# scales as DeepSeek publishes them; one, or one per row) and of GGUF files.
SCALE_NAMES = (".weight_scale_inv", ".weight_scale", ".scale")
# Scales of activations, which are made as values come here.
INPUT_SCALES = (".input_scale", ".activation_scale")
_SCALE_BLOCK = 128


def match_tensors(
    expected: Mapping[str, Shape],
    names: Mapping[str, str],
    catalog: Catalog,
    ignored: Callable[[str], bool],
) -> dict[str, TensorEntry]:
    """Return canonical name -> entry; scales of matrix `x` are the vector `x_scale`.

    names: canonical -> name in the file. ignored: says which names may be left over. Raises
    TensorMismatchError that lists all missing, left-over and wrongly shaped tensors.
    """
    missing, misshapen, found = [], [], {}
    for canonical, shape in expected.items():
        entry = catalog.tensors.get(names[canonical])
        if entry is None:
            missing.append(names[canonical])
        elif entry.shape != shape:
            misshapen.append(f"{entry.name} has shape {entry.shape} where {shape} is needed")
        else:
            found[canonical] = entry
    scales = _scales(found, catalog)
    misshapen += [_scale_words(e, found[n]) for n, e in scales.items() if not _fits(e, found[n])]
    used = {names[canonical] for canonical in expected} | {e.name for e in scales.values()}
    left_over = [
        name
        for name in catalog.tensors
        if name not in used and not ignored(name) and not (scales and name.endswith(INPUT_SCALES))
    ]
    _raise_mismatch(missing, left_over, misshapen)
    flat = {scale_name(n): replace(e, shape=(prod(e.shape),)) for n, e in scales.items()}
    return found | flat


def _scales(found: Mapping[str, TensorEntry], catalog: Catalog) -> dict[str, TensorEntry]:
    """Return the scales of those matrices that have some, by the matrices' names."""
    scales = {}
    for canonical, entry in found.items():
        if entry.format.name in SCALED_FORMATS and len(entry.shape) == 2:
            stem = entry.name.removesuffix(".weight")
            own = (catalog.tensors.get(stem + ending) for ending in SCALE_NAMES)
            scale = next((one for one in own if one is not None), None)
            if scale is not None:
                scales[canonical] = scale
    return scales


def _scale_shapes(matrix: TensorEntry) -> tuple[Shape, ...]:
    """Return the shapes that scales may have: one, one per row, one per 128 x 128 elements."""
    if matrix.format.name != "F8_E4M3":
        return ((), (1,))
    rows, cols = matrix.shape
    blocks = (-(-rows // _SCALE_BLOCK), -(-cols // _SCALE_BLOCK))
    return (), (1,), (1, 1), (rows,), (rows, 1), blocks


def _fits(scale: TensorEntry, matrix: TensorEntry) -> bool:
    return scale.shape in _scale_shapes(matrix)


def _scale_words(scale: TensorEntry, matrix: TensorEntry) -> str:
    return (
        f"{scale.name} has shape {scale.shape} where {_scale_shapes(matrix)[-1]} is needed, or one "
        "scale"
    )


def _raise_mismatch(missing: list[str], left_over: list[str], misshapen: list[str]) -> None:
    parts = (("missing", missing), ("left over", left_over), ("wrong shape", misshapen))
    lists = [f"{len(items)} {what}: {', '.join(items)}" for what, items in parts if items]
    if lists:
        raise TensorMismatchError(
            f"The tensors do not fit the model's settings. {'; '.join(lists)}. "
            "The file is damaged or made for another architecture: download it again or use "
            "another."
        )
