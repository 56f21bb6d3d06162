"""Command R7B and Command A (Cohere 2024, 2025): Command R with windows in 3 of 4 layers.

Layers without a window rotate nothing.
"""

from tonnage.models.family import Family

COHERE2 = Family(
    name="cohere2",
    gguf_architecture="cohere2",
    hf_model_types=("cohere2",),
    parallel=True,
    norm="layer",
    eps_setting="layer_norm_eps",
    window_period=4,
    rotates_in_windows=True,
    rope_style="interleaved",
    gguf_rope_style="interleaved",
    gguf_defaults={
        "attention.sliding_window": None,
        "attention.sliding_window_pattern": None,
        "logit_scale": 1.0,
    },
    hf_defaults={
        "hidden_act": "silu",
        "attention_bias": False,
        "layer_norm_eps": 1e-5,
        "logit_scale": 0.0625,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
        "sliding_window": 4096,
        "sliding_window_pattern": 4,
        "layer_types": None,
        # Of the program that trained it; transformers does not read them.
        "layer_switch": None,
        "order_of_interleaved_layers": None,
        "position_embedding_type": None,
        "rotary_pct": None,
        "use_embedding_sharing": None,
        "use_gated_activation": None,
        "use_parallel_block": None,
    },
)
