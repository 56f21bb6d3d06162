"""Qwen 2 and 2.5 (Yang et al. 2024): Llama with biases of q, k and v."""

from tonnage.models.family import Family

QWEN2 = Family(
    name="qwen2",
    gguf_architecture="qwen2",
    hf_model_types=("qwen2",),
    qkv_bias=True,
    hf_defaults={
        "hidden_act": "silu",
        "max_position_embeddings": 32768,
        "use_sliding_window": False,
        "sliding_window": 4096,
        "max_window_layers": 28,
        "layer_types": None,
    },
)
