"""All families, and the two ways from a checkpoint to a ModelSpec."""

from collections.abc import Iterator, Mapping
from importlib import import_module

from tonnage.core.checkpoint import Catalog
from tonnage.core.errors import UnsupportedModelError
from tonnage.core.model_spec import ModelSpec
from tonnage.models.family import Family

# general.architecture of GGUF -> module of the family. A run imports the one that it needs.
BY_GGUF_ARCHITECTURE = {
    "cohere2": "cohere2",
    "command-r": "cohere",
    "exaone4": "exaone4",
    "gemma2": "gemma2",
    "gemma3": "gemma3",
    "glm4": "glm4",
    "gpt2": "gpt2",
    "granite": "granite",
    "llama": "llama",
    "minicpm": "minicpm",
    "mistral3": "ministral3",
    "nemotron": "nemotron",
    "olmo2": "olmo2",
    "phi3": "phi3",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "seed_oss": "seed_oss",
    "smollm3": "smollm3",
    "stablelm": "stablelm",
    "starcoder2": "starcoder2",
}
# Families that share an architecture with another: what they are told by is their gguf_marker.
MARKED = {"olmo2": ("olmo3",)}
# model_type of config.json -> module of the family.
BY_HF_MODEL_TYPE = {
    "cohere": "cohere",
    "cohere2": "cohere2",
    "exaone4": "exaone4",
    "gemma2": "gemma2",
    "gemma3": "gemma3",
    "gemma3_text": "gemma3",
    "glm4": "glm4",
    "granite": "granite",
    "granitemoehybrid": "granite4",
    "llama": "llama",
    "minicpm": "minicpm",
    "ministral3": "ministral3",
    "mistral": "mistral",
    "mistral3": "ministral3",
    "nemotron": "nemotron",
    "olmo2": "olmo2",
    "olmo3": "olmo3",
    "phi3": "phi3",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "seed_oss": "seed_oss",
    "smollm3": "smollm3",
    "stablelm": "stablelm",
    "starcoder2": "starcoder2",
}


def families() -> Iterator[Family]:
    """Yield all families, by the names of their modules."""
    marked = (name for names in MARKED.values() for name in names)
    for name in sorted({*BY_GGUF_ARCHITECTURE.values(), *BY_HF_MODEL_TYPE.values(), *marked}):
        yield family_of(name)


def family_of(module: str) -> Family:
    """Return the family of a module of `tonnage.models.families`, its name in capitals."""
    found: Family = getattr(import_module(f"tonnage.models.families.{module}"), module.upper())
    return found


def spec_from_gguf(metadata: Mapping[str, object], catalog: Catalog) -> ModelSpec:
    """Return the model that a GGUF describes.

    metadata: key -> scalar, or array (a list, or lazy with `len` and `to_list()`). Raises
    UnsupportedModelError for an architecture or setting that is not implemented and
    TensorMismatchError for tensors that do not fit it.
    """
    from tonnage.models.gguf_spec import spec_of_gguf

    key = "general.architecture"
    family = _family(BY_GGUF_ARCHITECTURE, key, metadata.get(key))
    for other in map(family_of, MARKED.get(str(family.gguf_architecture), ())):
        if metadata.get(f"{other.gguf_architecture}.{other.gguf_marker}"):
            family = other
    return spec_of_gguf(family, metadata, catalog)


def spec_from_hf(config: Mapping[str, object], catalog: Catalog) -> ModelSpec:
    """Return the model that a Hugging Face folder describes; config: its parsed config.json.

    Raises as `spec_from_gguf` does.
    """
    from tonnage.models.hf_spec import spec_of_hf

    key = "model_type"
    return spec_of_hf(_family(BY_HF_MODEL_TYPE, key, config.get(key)), config, catalog)


def _family(table: Mapping[str, str], key: str, name: object) -> Family:
    if not isinstance(name, str) or name not in table:
        raise UnsupportedModelError(
            f"The model's {key} is {str(name)[:80]!r}, which is not implemented; "
            f"use a model of one of: {', '.join(sorted(table))}."
        )
    return family_of(table[name])
