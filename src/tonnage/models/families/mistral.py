"""Mistral (Jiang et al. 2023): Llama with a window in every layer. Its GGUF files say `llama`."""

from tonnage.models.family import Family

MISTRAL = Family(
    name="mistral",
    gguf_architecture=None,
    hf_model_types=("mistral",),
    hf_defaults={
        "hidden_act": "silu",
        "num_key_value_heads": 8,
        "max_position_embeddings": 131072,
        "sliding_window": 4096,
    },
)
