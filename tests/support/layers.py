"""Layers of one attention and one MLP, which most families have."""

from tonnage.blocks.attention import Attention
from tonnage.blocks.gated_mlp import GatedMlp
from tonnage.blocks.mlp import Mlp
from tonnage.core.block import Branch, Layer


def layer_of(
    attention: Attention, mlp: GatedMlp, *, pre_norms: bool = True, post_norms: bool = False
) -> Layer:
    """Return the layer that families make of both."""
    return Layer(
        tuple(
            Branch(name, block, pre_norm=pre_norms, post_norm=post_norms)
            for name, block in (("attn", attention), ("mlp", mlp))
        )
    )


def attention_of(layer: Layer) -> Attention:
    """Return the layer's attention."""
    (found,) = (b.block for b in layer.branches if isinstance(b.block, Attention))
    return found


def mlp_of(layer: Layer) -> GatedMlp | Mlp:
    """Return the layer's MLP."""
    (found,) = (b.block for b in layer.branches if isinstance(b.block, GatedMlp | Mlp))
    return found


def has_pre_norms(layer: Layer) -> bool:
    """Whether the inputs of both are normed."""
    first, *rest = (branch.pre_norm for branch in layer.branches if not branch.parallel)
    assert all(one == first for one in rest)
    return first


def has_post_norms(layer: Layer) -> bool:
    """Whether the results of both are normed."""
    first, *rest = (branch.post_norm for branch in layer.branches)
    assert all(one == first for one in rest)
    return first
