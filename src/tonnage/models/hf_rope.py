"""Rotary embeddings from a Hugging Face config.json, in its old and its new form.

Old: `rope_theta` and `rope_scaling` (and `rope_local_base_freq` of Gemma 3). New: all of it in
`rope_parameters`, one table, or one for each kind of layer where there are two ropes. What each
type reads and takes for absent values is that of transformers' modeling_rope_utils.
"""

from collections.abc import Mapping
from dataclasses import replace

from tonnage.core.record import record
from tonnage.core.rope import (
    DynamicNtk,
    LongRope,
    RopeSpec,
    Yarn,
    longrope_attention_factor,
    yarn_attention_factor,
)
from tonnage.models.family import Family
from tonnage.models.settings import MAX_COUNT, Settings

TYPES = ("default", "linear", "llama3", "dynamic", "yarn", "longrope", "su", "proportional")
# Of any type; what its own does not read changes nothing.
KNOWN = frozenset({
    "rope_type", "type", "rope_theta", "factor", "partial_rotary_factor",
    "original_max_position_embeddings", "low_freq_factor", "high_freq_factor", "attention_factor",
    "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate", "short_factor",
    "long_factor", "finetuned",
})  # fmt: skip
FIXED: Mapping[str, tuple[object, ...]] = {"attn_factor": (1.0,), "extrapolation_factor": (1.0,)}
MAX_STRETCH = 1_000_000  # Of a base, so that its power stays a number.
GLOBAL, LOCAL = "full_attention", "sliding_attention"


@record
class Around:
    """What a config says outside of a rope's table, for what the table leaves out.

    base: `rope_theta`. head_dim: elements of a head. partial: the rotated part of a head. context:
    `max_position_embeddings`. original_context: of the training before it was stretched.
    """

    base: float
    head_dim: int
    partial: float
    context: int
    original_context: int


def ropes_of_hf(
    family: Family, settings: Settings, dim: int, context_length: int
) -> tuple[RopeSpec, ...]:
    """Return the rope of layers that see everything, and, where it differs, of those that do not.

    dim: elements of a head. Raises UnsupportedModelError for scalings that are not implemented.
    """
    parameters = {
        key: value
        for key, value in settings.table("rope_parameters").items()
        if key not in family.beside_rope
    }
    scaling = settings.table("rope_scaling")
    around = Around(
        base=settings.number("rope_theta", family.rope_base, least=1.0),
        head_dim=dim,
        partial=settings.number("partial_rotary_factor", 1.0),
        context=context_length,
        original_context=settings.count("original_max_position_embeddings", context_length),
    )
    if family.local_rope_base is None:
        table, origin = (scaling, "rope_scaling") if scaling else (parameters, "rope_parameters")
        return (replace(_rope(table, origin, around), style=family.rope_style),)
    nested = Settings(parameters, {})
    nested.check_known((GLOBAL, LOCAL), {})
    local_base = settings.number("rope_local_base_freq", family.local_rope_base, least=1.0)
    everywhere = {**nested.table(GLOBAL), **scaling}
    local = Around(local_base, dim, around.partial, context_length, around.original_context)
    return (
        _rope(everywhere, f"rope_parameters.{GLOBAL}", around),
        _rope(nested.table(LOCAL), f"rope_parameters.{LOCAL}", local),
    )


def stretched_context(ropes: tuple[RopeSpec, ...], context_length: int) -> int:
    """Return the positions that a model takes whose settings state those before it is stretched."""
    longest = context_length
    for rope in ropes:
        if isinstance(rope.scaling, Yarn | DynamicNtk):
            whole = rope.scaling.factor * rope.scaling.original_context
            longest = max(longest, int(min(whole, MAX_COUNT)))
    return longest


def _rope(table: Mapping[str, object], origin: str, around: Around) -> RopeSpec:
    prefix = f"{origin}."
    stated = {"partial_rotary_factor": around.partial, **table}
    settings = Settings({prefix + key: value for key, value in stated.items()}, {}, prefix)
    kind = settings.choice("type", TYPES, "default")
    kind = settings.choice("rope_type", TYPES, kind)
    settings.check_known(KNOWN, FIXED)
    base = settings.number("rope_theta", around.base, least=1.0)
    partial = settings.number("partial_rotary_factor", around.partial)
    if partial > 1:
        settings.refuse("partial_rotary_factor", "at most 1")
    if kind == "proportional":
        factor = settings.number("factor", 1.0, least=1.0)
        pairs = int(partial * around.head_dim // 2)
        return RopeSpec(around.head_dim, base, factor=factor, rotated_pairs=pairs)
    dim = int(around.head_dim * partial)
    if dim < 2 or dim % 2:
        settings.refuse("partial_rotary_factor", f"an even part of a head of {around.head_dim}")
    plain = RopeSpec(dim, base)
    return plain if kind == "default" else _scaled(kind, plain, settings, around)


def _scaled(kind: str, plain: RopeSpec, settings: Settings, around: Around) -> RopeSpec:
    dim, base = plain.dim, plain.base
    original = settings.count("original_max_position_embeddings", around.original_context)
    if kind in ("longrope", "su"):
        return _longrope(plain, settings, around, original)
    if kind == "yarn":
        return _yarn(plain, settings, around, original)
    factor = settings.number("factor", least=1.0)
    if kind == "linear":
        return RopeSpec(dim, base, factor=factor)
    if kind == "dynamic":
        if dim < 4:
            settings.refuse("rope_type", f"another type for {dim} rotated elements")
        if factor > MAX_STRETCH:
            settings.refuse("factor", f"at most {MAX_STRETCH:,}")
        return RopeSpec(dim, base, scaling=DynamicNtk(factor, around.context))
    low, high = settings.number("low_freq_factor"), settings.number("high_freq_factor")
    if low >= high:
        settings.refuse("low_freq_factor", f"below high_freq_factor {high}")
    return RopeSpec(dim, base, llama3=(factor, low, high, original))


def _yarn(plain: RopeSpec, settings: Settings, around: Around, original: int) -> RopeSpec:
    factor = settings.number("factor", max(1.0, around.context / original), least=1.0)
    attention_factor = yarn_attention_factor(factor)
    if settings.get("mscale") and settings.get("mscale_all_dim"):
        over, under = settings.number("mscale"), settings.number("mscale_all_dim")
        attention_factor = yarn_attention_factor(factor, over) / yarn_attention_factor(
            factor, under
        )
    fast, slow = settings.number("beta_fast", 32.0), settings.number("beta_slow", 1.0)
    if plain.base <= 1:
        settings.refuse("rope_theta", "above 1")
    whole_pairs = settings.get("truncate") is None or settings.flag("truncate")
    return RopeSpec(
        plain.dim,
        plain.base,
        scaling=Yarn(factor, original, fast, slow, whole_pairs),
        attention_factor=settings.number("attention_factor", attention_factor),
    )


def _longrope(plain: RopeSpec, settings: Settings, around: Around, original: int) -> RopeSpec:
    factor = settings.number("factor", max(1.0, around.context / original), least=1.0)
    if factor > 1 and original < 2:
        settings.refuse("original_max_position_embeddings", "at least 2")
    scaling = LongRope(
        original,
        _divisors(settings, "short_factor", plain.dim // 2),
        _divisors(settings, "long_factor", plain.dim // 2),
    )
    usual = longrope_attention_factor(factor, original)
    attention_factor = settings.number("attention_factor", usual)
    return RopeSpec(plain.dim, plain.base, scaling=scaling, attention_factor=attention_factor)


def _divisors(settings: Settings, key: str, length: int) -> tuple[float, ...]:
    needed = f"a list of {length} finite numbers above 0"
    values = settings.get(key)
    if not isinstance(values, list) or len(values) != length:
        settings.refuse(key, needed)
    numbers = [Settings({key: value}, {}) for value in values]
    return tuple(one.number(key) for one in numbers)
