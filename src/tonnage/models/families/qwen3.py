"""Qwen 3 (Yang et al. 2025): Llama with norms of q and k, and heads wider than d_model / heads."""

from tonnage.models.family import Family

QWEN3 = Family(
    name="qwen3",
    gguf_architecture="qwen3",
    hf_model_types=("qwen3",),
    qk_norm="head",
    hf_defaults={
        "hidden_act": "silu",
        "head_dim": 128,
        "attention_bias": False,
        "max_position_embeddings": 32768,
        "use_sliding_window": False,
        "sliding_window": 4096,
        "max_window_layers": 28,
        "layer_types": None,
    },
)
