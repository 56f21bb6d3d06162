"""What a family multiplies by constants: embeddings, residual branches, logits, queries.

Settings are read under the names that any family has for them; those that a family does not know
are refused before.
"""

import math
from collections.abc import Collection, Mapping

from tonnage.core.record import record
from tonnage.models.settings import Settings


@record
class Scales:
    """Factors of embeddings, of what branches add, of logits, and the temperature of queries."""

    embedding: float = 1.0
    residual: float = 1.0
    logits: float = 1.0
    temperature: float = 0.0
    temperature_tokens: int = 0


def scales_of_hf(
    settings: Settings, rope: Mapping[str, object], context_length: int, num_layers: int
) -> Scales:
    """Return what a config.json says; rope: its table of the rotary embedding."""
    nested = Settings({f"rope_parameters.{k}": v for k, v in rope.items()}, {}, "rope_parameters.")
    per_base = 1.0  # How many times as wide the model is as that whose logits it keeps.
    if settings.get("dim_model_base") is not None:
        per_base = settings.count("hidden_size") / settings.count("dim_model_base")
    beta, length = "llama_4_scaling_beta", "original_max_position_embeddings"
    return Scales(
        embedding=_number(settings, "embedding_multiplier", _number(settings, "scale_emb", 1.0)),
        residual=_number(settings, "residual_multiplier", _per_depth(settings, num_layers)),
        logits=_number(settings, "logit_scale", 1.0)
        / _number(settings, "logits_scaling", per_base),
        temperature=_number(nested, beta, 0.0),
        temperature_tokens=nested.count(length, context_length) if nested.get(beta) else 0,
    )


def _per_depth(settings: Settings, num_layers: int) -> float:
    """Return muP's factor of residual branches (Yang et al. 2023), 1 without its setting."""
    if settings.get("scale_depth") is None:
        return 1.0
    return settings.number("scale_depth") / math.sqrt(num_layers)


def scales_of_gguf(
    settings: Settings, context_length: int, required: Collection[str], *, logits_divided: bool
) -> Scales:
    """Return what the metadata of a GGUF says.

    required: settings that must not be absent. logits_divided: `logit_scale` divides.
    """
    for key in {"embedding_scale", "residual_scale", "logit_scale"} & set(required):
        if settings.get(key) is None:
            settings.refuse(key, "a number: convert the model again, by a newer program")
    logits = _number(settings, "logit_scale", 1.0)
    temperature = _number(settings, "attention.temperature_scale", 0.0)
    length = "rope.scaling.original_context_length"
    return Scales(
        embedding=_number(settings, "embedding_scale", 1.0),
        residual=_number(settings, "residual_scale", 1.0),
        logits=1 / logits if logits_divided else logits,
        temperature=temperature,
        temperature_tokens=settings.count(length, context_length) if temperature else 0,
    )


def _number(settings: Settings, key: str, default: float) -> float:
    """Return a number above 0; absent or 0, which switches it off: the default."""
    return settings.number(key) if settings.get(key) else default
