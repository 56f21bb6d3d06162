"""Granite 3 (IBM 2024): Llama with factors of embeddings, residual branches, scores and logits.

GGUF files hold the rows of q and k as those of Llama do.
"""

from tonnage.models.family import Family

GRANITE = Family(
    name="granite",
    gguf_architecture="granite",
    hf_model_types=("granite",),
    gguf_rope_style="interleaved",
    logits_divided=True,
    gguf_defaults={
        "embedding_scale": 1.0,
        "residual_scale": 1.0,
        "logit_scale": 1.0,
        "rope.scaling.finetuned": True,  # False: nothing rotates, in some of Granite 4.
    },
    hf_defaults={
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "max_position_embeddings": 2048,
        "embedding_multiplier": 1.0,
        "residual_multiplier": 1.0,
        "attention_multiplier": 1.0,
        "logits_scaling": 1.0,
    },
)
