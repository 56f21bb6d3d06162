"""All families, and the two ways from a checkpoint to a ModelSpec."""

from collections.abc import Mapping

from tonnage.core.checkpoint import Catalog
from tonnage.core.errors import UnsupportedModelError
from tonnage.core.model_spec import ModelSpec
from tonnage.models.families.cohere import COHERE
from tonnage.models.families.cohere2 import COHERE2
from tonnage.models.families.exaone4 import EXAONE4
from tonnage.models.families.gemma2 import GEMMA2
from tonnage.models.families.gemma3 import GEMMA3
from tonnage.models.families.glm4 import GLM4
from tonnage.models.families.gpt2 import GPT2
from tonnage.models.families.granite import GRANITE
from tonnage.models.families.granite4 import GRANITE4
from tonnage.models.families.llama import LLAMA
from tonnage.models.families.minicpm import MINICPM
from tonnage.models.families.ministral3 import MINISTRAL3
from tonnage.models.families.mistral import MISTRAL
from tonnage.models.families.nemotron import NEMOTRON
from tonnage.models.families.olmo2 import OLMO2
from tonnage.models.families.olmo3 import OLMO3
from tonnage.models.families.phi3 import PHI3
from tonnage.models.families.qwen2 import QWEN2
from tonnage.models.families.qwen3 import QWEN3
from tonnage.models.families.seed_oss import SEED_OSS
from tonnage.models.families.smollm3 import SMOLLM3
from tonnage.models.families.stablelm import STABLELM
from tonnage.models.families.starcoder2 import STARCODER2
from tonnage.models.family import Family

FAMILIES = (
    LLAMA, MISTRAL, QWEN2, QWEN3, GEMMA2, GEMMA3, SMOLLM3, OLMO2, PHI3, GRANITE, GRANITE4,
    OLMO3, SEED_OSS, EXAONE4, GLM4, MINISTRAL3, COHERE, COHERE2, STARCODER2, NEMOTRON, STABLELM,
    MINICPM, GPT2,
)  # fmt: skip
BY_GGUF_ARCHITECTURE = {
    f.gguf_architecture: f for f in FAMILIES if f.gguf_architecture and not f.gguf_marker
}
BY_HF_MODEL_TYPE = {name: family for family in FAMILIES for name in family.hf_model_types}


def spec_from_gguf(metadata: Mapping[str, object], catalog: Catalog) -> ModelSpec:
    """Return the model that a GGUF describes.

    metadata: key -> scalar, or array (a list, or lazy with `len` and `to_list()`). Raises
    UnsupportedModelError for an architecture or setting that is not implemented and
    TensorMismatchError for tensors that do not fit it.
    """
    from tonnage.models.gguf_spec import spec_of_gguf

    key = "general.architecture"
    family = _family(BY_GGUF_ARCHITECTURE, key, metadata.get(key))
    for other in FAMILIES:
        if other.gguf_marker and other.gguf_architecture == family.gguf_architecture:
            marked = metadata.get(f"{family.gguf_architecture}.{other.gguf_marker}")
            family = other if marked else family
    return spec_of_gguf(family, metadata, catalog)


def spec_from_hf(config: Mapping[str, object], catalog: Catalog) -> ModelSpec:
    """Return the model that a Hugging Face folder describes; config: its parsed config.json.

    Raises as `spec_from_gguf` does.
    """
    from tonnage.models.hf_spec import spec_of_hf

    key = "model_type"
    return spec_of_hf(_family(BY_HF_MODEL_TYPE, key, config.get(key)), config, catalog)


def _family(table: Mapping[str, Family], key: str, name: object) -> Family:
    if not isinstance(name, str) or name not in table:
        raise UnsupportedModelError(
            f"The model's {key} is {str(name)[:80]!r}, which is not implemented; "
            f"use a model of one of: {', '.join(sorted(table))}."
        )
    return table[name]
