"""GLM-4 0414 (Zhipu AI 2025): norms before and behind blocks, biases of q, k and v.

The first half of each head rotates, neighbours by neighbours. Gate and up are one tensor.
"""

from tonnage.models.family import Family

GLM4 = Family(
    name="glm4",
    gguf_architecture="glm4",
    hf_model_types=("glm4",),
    post_norms=True,
    rope_style="interleaved",
    gguf_rope_style="interleaved",
    bias_settings={"attention_bias": "qkv"},
    hf_defaults={
        "hidden_act": "silu",
        "num_key_value_heads": 2,
        "head_dim": 128,
        "attention_bias": True,
        "max_position_embeddings": 131072,
        "partial_rotary_factor": 0.5,
        "rms_norm_eps": 1.5625e-07,
    },
    hf_names={
        "post_attn_norm": "post_self_attn_layernorm.weight",
        "mlp_norm": "post_attention_layernorm.weight",
        "post_mlp_norm": "post_mlp_layernorm.weight",
    },
)
