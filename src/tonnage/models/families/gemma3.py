"""Gemma 3 (Kamath et al. 2025), its language model: every 6th layer global, with a rope of its own.

Hugging Face weights leave 1 out of the norms; GGUF files hold it.
"""

from tonnage.models.family import Family

GEMMA3 = Family(
    name="gemma3",
    gguf_architecture="gemma3",
    hf_model_types=("gemma3", "gemma3_text"),
    hf_wrapper_type="gemma3",
    activation="gelu_tanh",
    qk_norm="head",
    post_norms=True,
    scaled_embedding=True,
    norm_offset=1.0,
    rope_base=1e6,
    local_rope_base=1e4,
    window_period=6,
    wide_scale_layers=62,
    gguf_defaults={
        "attention.sliding_window": None,  # 512 or 1024 by size, so a file must say.
        "attention.sliding_window_pattern": None,
        "rope.freq_base_swa": None,
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
    },
    not_there="the vision tower: images",
    hf_defaults={
        "hidden_act": None,  # Not read: hidden_activation is what counts.
        "hidden_activation": "gelu_pytorch_tanh",
        "vocab_size": 262208,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "max_position_embeddings": 131072,
        "tie_word_embeddings": True,
        "attention_bias": False,
        "query_pre_attn_scalar": 256,
        "rope_local_base_freq": None,
        "sliding_window": 4096,
        "sliding_window_pattern": None,
        "_sliding_window_pattern": None,
        "layer_types": None,
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
    },
)
