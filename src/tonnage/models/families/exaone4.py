"""EXAONE 4 (LG AI Research 2025): norms of results alone, and of each head of q and k.

The larger one has a window in all but every 4th layer, and those without one rotate nothing.
"""

from tonnage.models.family import Family

EXAONE4 = Family(
    name="exaone4",
    gguf_architecture="exaone4",
    hf_model_types=("exaone4",),
    qk_norm="head",
    pre_norms=False,
    post_norms=True,
    window_period=4,
    rotates_in_windows=True,
    gguf_defaults={
        "attention.sliding_window": 0,
        "attention.sliding_window_pattern": None,
    },
    hf_defaults={
        "hidden_act": "silu",
        "num_key_value_heads": 32,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "sliding_window": 4096,
        "sliding_window_pattern": 4,
        "layer_types": None,
    },
)
