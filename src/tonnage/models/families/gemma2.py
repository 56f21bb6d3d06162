"""Gemma 2 (Riviere et al. 2024): norms before and after, capped scores, every 2nd layer global.

Hugging Face weights leave 1 out of the norms; GGUF files hold it.
"""

from tonnage.models.family import Family

GEMMA2 = Family(
    name="gemma2",
    gguf_architecture="gemma2",
    hf_model_types=("gemma2",),
    activation="gelu_tanh",
    post_norms=True,
    scaled_embedding=True,
    norm_offset=1.0,
    window_period=2,
    wide_scale_layers=46,
    gguf_defaults={
        "attention.sliding_window": 4096,
        "attention.sliding_window_pattern": None,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
    },
    hf_defaults={
        "hidden_act": None,  # Not read: hidden_activation is what counts.
        "hidden_activation": "gelu_pytorch_tanh",
        "num_key_value_heads": 4,
        "head_dim": 256,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
        "attention_bias": False,
        "query_pre_attn_scalar": 256,
        "sliding_window": 4096,
        "sliding_window_size": None,  # Not read: the same number a second time.
        "layer_types": None,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
    },
)
