"""Ministral 3 and Mistral Small 3 (Mistral AI 2025): Mistral, stretched by YaRN, without a window.

Queries grow with the logarithm of how many original contexts lie before them. A vision tower beside
is left out. GGUF files hold the rows of q and k as those of Llama do.
"""

from tonnage.models.family import Family

MINISTRAL3 = Family(
    name="ministral3",
    gguf_architecture="mistral3",
    hf_model_types=("ministral3", "mistral3"),
    hf_wrapper_type="mistral3",
    gguf_rope_style="interleaved",
    beside_rope=("llama_4_scaling_beta", "max_position_embeddings"),
    gguf_defaults={"attention.temperature_scale": 0.0},
    not_there="the vision tower: images",
    hf_defaults={
        "hidden_act": "silu",
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 262144,
        "rms_norm_eps": 1e-5,
        "sliding_window": None,
        "rope_parameters": {
            "type": "yarn",
            "rope_type": "yarn",
            "rope_theta": 1e6,
            "factor": 16.0,
            "original_max_position_embeddings": 16384,
            "max_position_embeddings": 262144,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "mscale": 1.0,
            "mscale_all_dim": 1.0,
            "llama_4_scaling_beta": 0.1,
        },
    },
)
