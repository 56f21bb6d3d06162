"""The tensors of a Hugging Face folder: where its language model lies, and which head it has."""

from collections.abc import Mapping

from tonnage.core.block import Shape
from tonnage.core.checkpoint import Catalog, TensorEntry
from tonnage.core.record import record
from tonnage.formats.same_bytes import same_bytes
from tonnage.models.family import Family
from tonnage.models.fused import split_fused
from tonnage.models.tensor_names import HF_NAMES, HF_POST_NORM_NAMES, hf_name, match_tensors

# Where the language model lies -> where its head does. Base models are saved without `model.`.
ROOTS = {
    "model.": "lm_head.weight",
    "": "lm_head.weight",
    "language_model.model.": "language_model.lm_head.weight",
    "model.language_model.": "lm_head.weight",
    "language_model.": "lm_head.weight",
}
VISION = ("vision_tower.", "multi_modal_projector.")
# What old checkpoints hold of what the settings already say.
BUFFERS = ("rotary_emb.inv_freq", "rotary_emb.cos_cached", "rotary_emb.sin_cached", "position_ids")
LAYER = "layers."
# What classes of transformers end in whose checkpoints have a head.
WITH_HEAD = ("ForCausalLM", "ForConditionalGeneration", "LMHeadModel")


@record
class FolderFacts:
    """What config.json says of the tensors.

    tied: the head is the embedding, unless the checkpoint holds another. is_base: it was saved by a
    class that has no head. has_vision: a vision tower lies beside it.
    """

    tied: bool
    is_base: bool
    has_vision: bool


def is_base_model(architectures: object) -> bool:
    """Return whether a config's `architectures` name only classes without a head."""
    return (
        isinstance(architectures, list)
        and bool(architectures)
        and not any(str(name).endswith(WITH_HEAD) for name in architectures)
    )


def match_folder(
    family: Family, expected: Mapping[str, Shape], catalog: Catalog, facts: FolderFacts
) -> tuple[dict[str, TensorEntry], bool]:
    """Return canonical name -> entry, and whether there is a head.

    expected: every tensor but the head. Raises TensorMismatchError.
    """
    table = {**(HF_POST_NORM_NAMES if family.post_norms else HF_NAMES), **family.hf_names}
    root = next((r for r in ROOTS if r + table["final_norm"] in catalog.tensors), "model.")
    names = {name: root + hf_name(name, table) for name in expected}
    catalog = split_fused(catalog, expected, names, lambda name: root + hf_name(name, table))
    head = ROOTS[root]
    if facts.tied and names["embed"] not in catalog.tensors:
        # One of two tensors that share their bytes is saved, under either name.
        names["embed"] = head
    own_head = head in catalog.tensors
    if own_head and facts.tied:
        own_head = not _is_tied(catalog, names["embed"], head)
    if own_head or not (facts.tied or facts.is_base):
        expected, names = {**expected, "head": expected["embed"]}, {**names, "head": head}

    num_layers = 1 + max((_layer_of(name) for name in expected), default=-1)

    def is_ignored(name: str) -> bool:
        vision = facts.has_vision and name.removeprefix("model.").startswith(VISION)
        # Layers behind the last one draft tokens, or were cut off by the settings.
        behind = name.startswith(root) and _layer_of(name.removeprefix(root)) >= num_layers
        return vision or behind or name == head or name.endswith(BUFFERS)

    weights = match_tensors(expected, names, catalog, is_ignored)
    return weights, own_head or facts.tied


def _layer_of(name: str) -> int:
    """Return the index of the layer that a tensor belongs to, -1 for none."""
    index = name.removeprefix(LAYER).partition(".")[0] if name.startswith(LAYER) else ""
    return int(index) if index.isdecimal() and len(index) < 10 else -1


def _is_tied(catalog: Catalog, embed: str, head: str) -> bool:
    """Return whether the head of a checkpoint whose settings tie it is the embedding once more.

    Where it is another, its training untied it: transformers takes it too.
    """
    return head == embed or (
        embed in catalog.tensors and same_bytes(catalog.tensors[embed], catalog.tensors[head])
    )
