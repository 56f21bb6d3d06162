"""Rotary embeddings from the metadata of a GGUF file, as llama.cpp reads them."""

from collections.abc import Mapping

from tonnage.core.checkpoint import Catalog
from tonnage.core.model_spec import LONG_FACTORS, SHORT_FACTORS
from tonnage.core.rope import LongRope, RopeSpec, Yarn, yarn_attention_factor
from tonnage.models.family import Family
from tonnage.models.settings import Settings
from tonnage.models.tensor_names import gguf_name

TYPES = ("none", "linear", "yarn", "longrope")
KNOWN_SCALING = frozenset({
    "rope.scaling.type", "rope.scaling.factor", "rope.scaling.original_context_length",
    "rope.scaling.attn_factor", "rope.scaling.yarn_log_multiplier",
    "rope.scaling.yarn_beta_fast", "rope.scaling.yarn_beta_slow",
    "rope.scale_linear",  # the factor in old files
})  # fmt: skip
# Whether pairs are blended, by how much; -1: as the type says.
FIXED_SCALING: Mapping[str, tuple[object, ...]] = {
    "rope.scaling.yarn_ext_factor": (-1.0, 1.0),
    "rope.scaling.yarn_attn_factor": (1.0,),
}


def divisor_tensors(rope: RopeSpec) -> tuple[str, ...]:
    """Return the canonical names of tensors that may divide its frequencies."""
    if isinstance(rope.scaling, LongRope):
        return (SHORT_FACTORS, LONG_FACTORS)
    return ("rope_factors",)


def ropes_of_gguf(
    family: Family, settings: Settings, k_dim: int, catalog: Catalog
) -> tuple[RopeSpec, ...]:
    """Return the rope of layers that see everything, and, where it differs, of those that do not.

    k_dim: elements of a head. catalog: long divisors in it are those of longrope, which files need
    not name. Raises UnsupportedModelError for scalings that are not implemented.
    """
    dim = settings.count("rope.dimension_count", k_dim)
    if dim > k_dim or dim % 2:
        settings.refuse("rope.dimension_count", f"even and at most the key length {k_dim}")
    base = settings.number("rope.freq_base", family.rope_base, least=1.0)
    style = family.gguf_rope_style
    usual = "longrope" if gguf_name(LONG_FACTORS) in catalog.tensors else "linear"
    ropes: tuple[RopeSpec, ...] = (_scaled(RopeSpec(dim, base, style), settings, usual),)
    if family.local_rope_base is not None:
        # Where a family has the same base for both, so have its files.
        shared = family.local_rope_base == family.rope_base
        usual_local = base if shared else family.local_rope_base
        local = settings.number("rope.freq_base_swa", usual_local, least=1.0)
        ropes += (RopeSpec(dim, local, style),)
    return ropes


def _factor(settings: Settings) -> float:
    """Return how many times as slow positions pass; 0 says nothing."""
    for key in ("rope.scaling.factor", "rope.scale_linear"):
        if settings.get(key):
            return settings.number(key, least=1.0)
    return 1.0


def _scaled(plain: RopeSpec, settings: Settings, usual: str) -> RopeSpec:
    """Return the rope with what `rope.scaling` says; usual: its type where it names none."""
    kind = settings.choice("rope.scaling.type", TYPES, usual)
    dim, base, style = plain.dim, plain.base, plain.style
    attention_factor = settings.number("rope.scaling.attn_factor", 1.0)
    factor = 1.0 if kind == "none" else _factor(settings)
    if kind in ("none", "linear"):
        return RopeSpec(dim, base, style, factor, attention_factor=attention_factor)
    context = settings.count("context_length")
    original = settings.count("rope.scaling.original_context_length", context)
    if kind == "longrope":
        scaling = LongRope(original)
        return RopeSpec(
            dim, base, style, factor, scaling=scaling, attention_factor=attention_factor
        )
    if base <= 1:
        settings.refuse("rope.freq_base", "above 1")
    fast = settings.number("rope.scaling.yarn_beta_fast", 32.0)
    slow = settings.number("rope.scaling.yarn_beta_slow", 1.0)
    attention_factor *= yarn_attention_factor(factor)
    if settings.get("rope.scaling.yarn_log_multiplier"):
        weight = settings.number("rope.scaling.yarn_log_multiplier")
        attention_factor /= yarn_attention_factor(factor, weight)
    return RopeSpec(
        dim,
        base,
        style,
        scaling=Yarn(factor, original, fast, slow),
        attention_factor=attention_factor,
    )
