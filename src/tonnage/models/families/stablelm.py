"""StableLM (Bellagente et al. 2024): LayerNorm with biases, a quarter of each head rotates.

Those of 12B have norms of each head of queries and keys, and are refused by that.
"""

from tonnage.models.family import Family

STABLELM = Family(
    name="stablelm",
    gguf_architecture="stablelm",
    hf_model_types=("stablelm",),
    norm="biased layer",
    eps_setting="layer_norm_eps",
    bias_settings={"use_qkv_bias": "qkv"},
    gguf_defaults={"use_parallel_residual": False},
    not_there="norms of each head of queries and keys (12B)",
    hf_defaults={
        "hidden_act": "silu",
        "num_key_value_heads": 32,
        "layer_norm_eps": 1e-5,
        "max_position_embeddings": 4096,
        "partial_rotary_factor": 0.25,
        "use_parallel_residual": False,
        "use_qkv_bias": False,
    },
)
