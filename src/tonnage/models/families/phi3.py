"""Phi-3 and Phi-4-mini (Abdin et al. 2024): Llama with q, k and v in one tensor, gate and up too.

Long contexts by longrope, and a part of each head that rotates, where the settings say so.
"""

from tonnage.models.family import Family

PHI3 = Family(
    name="phi3",
    gguf_architecture="phi3",
    hf_model_types=("phi3",),
    gguf_defaults={"attention.sliding_window": 0},
    hf_defaults={
        "hidden_act": "silu",
        "attention_bias": False,
        "max_position_embeddings": 4096,
        "original_max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "sliding_window": None,
    },
)
