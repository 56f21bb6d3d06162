"""A ModelSpec as the reference transformer takes it: numbers only, no method of the product."""

from collections.abc import Mapping

from oracles import rope, transformer
from support.layers import attention_of, has_post_norms, has_pre_norms, mlp_of
from tonnage.blocks.attention import Attention
from tonnage.blocks.gated_mlp import GatedMlp
from tonnage.core.block import Layer
from tonnage.core.model_spec import ModelSpec
from tonnage.core.rope import DynamicNtk, LongRope, RopeSpec, Yarn

# Formats whose matrices take float inputs; all others take int8 ones (docs/kernels.md).
FLOAT_FORMATS = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3"})


def described(spec: ModelSpec, context: int = 0) -> transformer.Model:
    """Return `spec` for the reference transformer; context: what ropes that depend on it go by."""
    return transformer.Model(
        d_model=spec.d_model,
        layers=tuple(_layer(layer) for layer in spec.layers),
        ropes=tuple(_rope(rope, context) for rope in spec.ropes),
        norm_eps=spec.norm_eps,
        embed_scale=spec.embed_scale,
        final_softcap=spec.final_softcap,
        norm_offset=spec.norm_offset,
        tied_head="head" not in spec.weights,
        has_rope_factors="rope_factors" in spec.weights,
        norm=spec.norm,
        logit_scale=spec.logit_scale,
        has_positions="positions" in spec.weights,
    )


def coded_matrices(spec: ModelSpec, held: Mapping[str, str]) -> frozenset[str]:
    """Return the names of matrices whose inputs are int8; held: formats other than the file's."""
    return frozenset(
        name
        for name, entry in spec.weights.items()
        if len(entry.shape) > 1 and held.get(name, entry.format.name) not in FLOAT_FORMATS
    )


def _rope(spec: RopeSpec, context: int) -> transformer.Rope:
    base, yarn, divisors = spec.base, None, spec.divisors
    match spec.scaling:
        case Yarn(factor, original, fast, slow, whole):
            yarn = rope.Yarn(factor, original, fast, slow, whole)
        case DynamicNtk(factor, original):
            base = rope.grown_base(spec.dim, base, factor, original, context)
        case LongRope(original, short, long):
            divisors = long if context > original else short
    return transformer.Rope(
        dim=spec.dim,
        base=base,
        style=spec.style,
        linear=spec.factor,
        llama3=None if spec.llama3 is None else rope.Llama3(*spec.llama3),
        yarn=yarn,
        divisors=divisors,
        turning=spec.rotated_pairs,
        attention_factor=spec.attention_factor,
    )


def _layer(spec: Layer) -> transformer.Layer:
    mlp = mlp_of(spec)
    return transformer.Layer(
        _attention(attention_of(spec)),
        mlp.hidden,
        mlp.activation,
        pre_norms=has_pre_norms(spec),
        post_norms=has_post_norms(spec),
        mlp_bias=mlp.bias,
        gated=isinstance(mlp, GatedMlp),
        parallel=spec.branches[1].parallel,
        scale=spec.branches[0].scale,
    )


def _attention(spec: Attention) -> transformer.Attention:
    return transformer.Attention(
        num_heads=spec.num_heads,
        num_kv_heads=spec.num_kv_heads,
        k_dim=spec.k_dim,
        v_dim=spec.v_dim,
        scale=spec.scale,
        rope=spec.rope,
        window=spec.window,
        softcap=spec.softcap,
        biases=spec.biases,
        qk_norm=spec.qk_norm,
        temperature=(spec.temperature, spec.temperature_tokens) if spec.temperature else None,
    )
