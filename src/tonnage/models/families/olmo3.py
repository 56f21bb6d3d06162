"""OLMo 3 (OLMo et al. 2025): OLMo 2 with windows, all but every 4th layer's.

Layers with a window rotate by the plain rope, whatever stretches that of the others. GGUF files say
`olmo2`, and have a window.
"""

from tonnage.models.family import Family

OLMO3 = Family(
    name="olmo3",
    gguf_architecture="olmo2",
    gguf_marker="attention.sliding_window",
    hf_model_types=("olmo3",),
    qk_norm="all",
    pre_norms=False,
    post_norms=True,
    rope_base=5e5,
    local_rope_base=5e5,
    window_period=4,
    gguf_defaults={
        "attention.sliding_window": None,
        "attention.sliding_window_pattern": None,
        "rope.freq_base_swa": None,
    },
    hf_defaults={
        "hidden_act": "silu",
        "attention_bias": False,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "sliding_window": 4096,
        "layer_types": None,
    },
)
