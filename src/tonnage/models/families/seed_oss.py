"""Seed-OSS (ByteDance 2025): Llama with biases of q, k and v, and heads wider than d_model / heads.

GGUF files call the norm before the MLP what others call that behind attention.
"""

from tonnage.models.family import Family

SEED_OSS = Family(
    name="seed_oss",
    gguf_architecture="seed_oss",
    hf_model_types=("seed_oss",),
    bias_settings={"attention_bias": "qkv", "attention_out_bias": "o"},
    gguf_names={"mlp_norm": "post_attention_norm.weight"},
    hf_defaults={
        "hidden_act": "silu",
        "num_key_value_heads": 8,
        "head_dim": 128,
        "attention_bias": True,
        "attention_out_bias": False,
        "mlp_bias": False,
        "max_position_embeddings": 524288,
    },
)
