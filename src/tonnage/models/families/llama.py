"""Llama 1 to 3 (Touvron et al. 2023) and what shares its architecture, SmolLM2 for one.

Its GGUF files hold the rows of q and k reordered, so that pairs to rotate are neighbours, and
Llama 3's scaling of the rope as the tensor `rope_freqs.weight`.
"""

from tonnage.models.family import Family

LLAMA = Family(
    name="llama",
    gguf_architecture="llama",
    hf_model_types=("llama",),
    gguf_rope_style="interleaved",
    gguf_defaults={
        "attention.sliding_window": 0,  # Mistral files say they are Llama.
        "attention.sliding_window_pattern": None,
    },
    hf_defaults={
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "max_position_embeddings": 2048,
    },
)
