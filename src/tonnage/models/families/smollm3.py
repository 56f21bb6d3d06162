"""SmolLM3 (Bakouch et al. 2025): Llama without a rotary embedding in every 4th layer.

The list `no_rope_layers` of a config has 1 for layers that do rotate. GGUF files do not say it, and
hold the rows of q and k as those of Llama do.
"""

from tonnage.models.family import Family

SMOLLM3 = Family(
    name="smollm3",
    gguf_architecture="smollm3",
    hf_model_types=("smollm3",),
    rope_base=2e6,
    no_rope_period=4,
    gguf_rope_style="interleaved",
    hf_defaults={
        "hidden_act": "silu",
        "num_key_value_heads": 4,
        "attention_bias": False,
        "mlp_bias": False,
        "max_position_embeddings": 32768,
        "tie_word_embeddings": True,
        "use_sliding_window": False,
        "sliding_window": None,
        "layer_types": None,
        "no_rope_layers": None,
        "no_rope_layer_interval": 4,
    },
)
