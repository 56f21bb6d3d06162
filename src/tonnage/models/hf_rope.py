"""Rotary embeddings from a Hugging Face config.json, in its old and its new form.

Old: `rope_theta` and `rope_scaling` (and `rope_local_base_freq` of Gemma 3). New: all of it in
`rope_parameters`, one table, or one for each kind of layer where there are two ropes.
"""

from collections.abc import Mapping

from tonnage.core.rope import RopeSpec
from tonnage.models.family import Family
from tonnage.models.settings import Settings

TYPES = ("default", "linear", "llama3")
KNOWN = frozenset({"rope_type", "type", "rope_theta"})
KNOWN_SCALING = {
    "default": KNOWN,
    "linear": KNOWN | {"factor"},
    "llama3": KNOWN
    | {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"},
}
FIXED: Mapping[str, tuple[object, ...]] = {"partial_rotary_factor": (1.0,)}
GLOBAL, LOCAL = "full_attention", "sliding_attention"


def ropes_of_hf(
    family: Family, settings: Settings, dim: int, context_length: int
) -> tuple[RopeSpec, ...]:
    """Return the rope of layers that see everything, and, where it differs, of those that do not.

    dim: elements of a head. Raises UnsupportedModelError for scalings that are not implemented.
    """
    parameters = settings.table("rope_parameters")
    scaling = settings.table("rope_scaling")
    base = settings.number("rope_theta", family.rope_base, least=1.0)
    if family.local_rope_base is None:
        table, origin = (scaling, "rope_scaling") if scaling else (parameters, "rope_parameters")
        return (_rope(table, origin, base, dim, context_length),)
    nested = Settings(parameters, {})
    nested.check_known((GLOBAL, LOCAL), {})
    local_base = settings.number("rope_local_base_freq", family.local_rope_base, least=1.0)
    whole = {**nested.table(GLOBAL), **scaling}
    return (
        _rope(whole, f"rope_parameters.{GLOBAL}", base, dim, context_length),
        _rope(nested.table(LOCAL), f"rope_parameters.{LOCAL}", local_base, dim, context_length),
    )


def _rope(
    table: Mapping[str, object], origin: str, base: float, dim: int, context_length: int
) -> RopeSpec:
    prefix = f"{origin}."
    settings = Settings({prefix + key: value for key, value in table.items()}, {}, prefix)
    kind = settings.choice("type", TYPES, "default")
    kind = settings.choice("rope_type", TYPES, kind)
    settings.check_known(KNOWN_SCALING[kind], FIXED)
    base = settings.number("rope_theta", base, least=1.0)
    if kind == "default":
        return RopeSpec(dim, base)
    factor = settings.number("factor", least=1.0)
    if kind == "linear":
        return RopeSpec(dim, base, factor=factor)
    low, high = settings.number("low_freq_factor"), settings.number("high_freq_factor")
    if low >= high:
        settings.refuse("low_freq_factor", f"below high_freq_factor {high}")
    original = settings.count("original_max_position_embeddings", context_length)
    return RopeSpec(dim, base, llama3=(factor, low, high, original))
