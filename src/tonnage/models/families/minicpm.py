"""MiniCPM 1, 2 and 4 (Hu et al. 2024): Llama with the factors of muP, stretched by LongRoPE in 4.

GGUF files hold the rows of q and k as those of Llama do. Old ones leave the factors out, which no
reader can know for sure, and are refused by that.
"""

from tonnage.models.family import Family

MINICPM = Family(
    name="minicpm",
    gguf_architecture="minicpm",
    hf_model_types=("minicpm",),
    gguf_rope_style="interleaved",
    logits_divided=True,
    not_there="sparse attention (4, beyond 8,192 tokens, where a config asks for it)",
    gguf_defaults={
        "embedding_scale": None,
        "residual_scale": None,
        "logit_scale": None,
    },
    hf_defaults={
        "hidden_act": "silu",
        "attention_bias": False,
        "max_position_embeddings": 2048,
        "scale_emb": 1.0,
        "scale_depth": 1.0,
        "dim_model_base": 1,
        "tie_word_embeddings": True,
        "mup_denominator": None,  # Of heads that draft tokens.
    },
)
