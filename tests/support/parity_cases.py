"""Models that must give what transformers gives, and llama.cpp: odd sizes, and settings.

A new family gets the odd sizes by its entry in support/tiny_families.py. What else its config.json
may say goes into VARIANTS.
"""

from collections.abc import Mapping

from support.checkpoints import LLAMA3, tiny_config
from support.tiny_families import FAMILIES, TINY_FAMILIES

Config = Mapping[str, object]

ODD_SIZES: dict[str, Config] = {
    "as it is": {},
    "heads of 80, one layer": {"head_dim": 80, "hidden_size": 64, "num_hidden_layers": 1},
    "heads of 128": {"head_dim": 128, "hidden_size": 64},
    "six heads over one, 57 inner": {
        "num_attention_heads": 6,
        "num_key_value_heads": 1,
        "intermediate_size": 57,
    },
    "as many heads of keys, 31 tokens": {"num_key_value_heads": 4, "vocab_size": 31},
    "seven layers": {"num_hidden_layers": 7},
    "heads of 100, width 560": {"head_dim": 100, "hidden_size": 560, "num_hidden_layers": 1},
    "heads of 8, 71 inner": {"head_dim": 8, "intermediate_size": 71, "hidden_size": 72},
}
LAYER_TYPES = ["full_attention", "sliding_attention", "full_attention"]
SLIDING = {"use_sliding_window": True, "sliding_window": 4}
YARN = {"factor": 4.0, "original_max_position_embeddings": 128}
LONGROPE = {
    "rope_type": "longrope",
    "short_factor": [1.0 + i / 64 for i in range(32)],
    "long_factor": [1.0 + i * i / 32 for i in range(32)],
}
PHI3_LONGROPE = {key: value[:16] for key, value in LONGROPE.items() if key != "rope_type"}
PHI3_LONGROPE["type"] = "longrope"
TEMPERED = TINY_FAMILIES["ministral3"].settings["rope_parameters"]
GEMMA3_ROPES = {
    "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 5e5},
    "sliding_attention": {"rope_type": "default", "rope_theta": 2e3},
}
# A setting that is None here is left out of config.json where DROPPED names it.
DROPPED = ("rope_theta", "rope_local_base_freq")
VARIANTS: dict[str, dict[str, Config]] = {
    "llama": {
        "tied, old head size, biases": {
            "head_dim": None, "tie_word_embeddings": True, "attention_bias": True,
        },
        "llama3 rope, old form": {"rope_theta": 5e5, "rope_scaling": LLAMA3},
        "llama3 rope, new form": {"rope_parameters": {**LLAMA3, "rope_theta": 5e5}},
        "linear rope": {"rope_scaling": {"type": "linear", "factor": 2.5}},
        "biases of the MLP": {"mlp_bias": True},
        "GELU itself": {"hidden_act": "gelu"},
        "unread factor": {"rope_scaling": {"rope_type": "default", "factor": 4.0}},
        "yarn": {"rope_scaling": {**YARN, "type": "yarn"}},
        "yarn, new form, all settings": {
            "rope_parameters": {
                **YARN, "rope_type": "yarn", "rope_theta": 5e5, "beta_fast": 8.0, "beta_slow": 0.5,
                "truncate": False, "mscale": 0.7, "mscale_all_dim": 1.2,
            },
        },
        "yarn, attention factor": {
            "rope_scaling": {**YARN, "rope_type": "yarn", "attention_factor": 1.25},
        },
        "yarn of the whole context": {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}},
        "dynamic, short": {"rope_scaling": {"type": "dynamic", "factor": 4.0}},
        "dynamic, long": {
            "rope_scaling": {"type": "dynamic", "factor": 4.0}, "max_position_embeddings": 16,
        },
        "longrope, short": {
            "rope_scaling": {**LONGROPE, "factor": 4.0, "original_max_position_embeddings": 64},
        },
        "longrope, long": {"rope_scaling": {**LONGROPE, "original_max_position_embeddings": 16}},
        "longrope, attention factor": {
            "rope_scaling": {
                **LONGROPE, "attention_factor": 1.5, "original_max_position_embeddings": 16,
            },
        },
        "proportional": {
            "rope_parameters": {
                "rope_type": "proportional", "rope_theta": 1e4, "partial_rotary_factor": 0.25,
                "factor": 2.0,
            },
        },
    },
    "mistral": {"no window": {"sliding_window": None}},
    "qwen2": {
        "yarn": {"rope_scaling": {**YARN, "type": "yarn"}},
        "untied, window by layer": {
            **SLIDING, "tie_word_embeddings": False, "max_window_layers": 1,
        },
        "layer types": {**SLIDING, "layer_types": LAYER_TYPES},
    },
    "qwen3": {
        "biases, tied": {"attention_bias": True, "tie_word_embeddings": True},
        "layer types": {**SLIDING, "layer_types": LAYER_TYPES},
    },
    "gemma2": {
        "no caps": {"attn_logit_softcapping": None, "final_logit_softcapping": None},
        "heads of 256": {"head_dim": 256, "hidden_size": 64},
    },
    "gemma3_text": {
        "pattern of 2": {"sliding_window_pattern": 2},
        "old linear rope": {
            "sliding_window_pattern": 2, "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        },
        "new form": {
            "layer_types": LAYER_TYPES, "rope_parameters": GEMMA3_ROPES,
            "rope_theta": None, "rope_local_base_freq": None,
        },
        "seven layers, untied": {"num_hidden_layers": 7, "tie_word_embeddings": False},
    },
    "smollm3": {
        "rotation by layer, untied, biases": {
            "no_rope_layers": [0, 1, 0, 0, 1], "tie_word_embeddings": False, "attention_bias": True,
        },
        "every second layer without": {"no_rope_layer_interval": 2, "rope_theta": None},
        "windows without rotation": SLIDING,
        "layer types": {**SLIDING, "layer_types": [*LAYER_TYPES, *LAYER_TYPES[:2]]},
    },
    "phi3": {
        "whole heads, no window, tied": {
            "partial_rotary_factor": 1.0, "sliding_window": None, "tie_word_embeddings": True,
        },
        # As wide as its heads together, or transformers counts divisors by another size of a head.
        "longrope, short": {
            "rope_scaling": PHI3_LONGROPE, "original_max_position_embeddings": 64,
            "hidden_size": 256,
        },
        "longrope, long": {
            "rope_scaling": PHI3_LONGROPE, "original_max_position_embeddings": 16,
            "hidden_size": 256,
        },
    },
    "granite": {
        "tied, biases": {
            "tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True,
            "residual_multiplier": 0.22, "logits_scaling": 6.0,
        },
        "no factors": {
            "embedding_multiplier": 1.0, "residual_multiplier": 1.0, "logits_scaling": 1.0,
        },
        "yarn": {"rope_scaling": {**YARN, "type": "yarn"}},
    },
    "olmo3": {
        "layer types, biases": {
            "num_hidden_layers": 3, "layer_types": LAYER_TYPES, "attention_bias": True,
        },
        "stretched where all is seen": {"rope_scaling": {**YARN, "rope_type": "yarn"}},
        "new form": {
            "rope_theta": None,
            "rope_parameters": {
                "full_attention": {**YARN, "rope_type": "yarn", "rope_theta": 5e4},
                "sliding_attention": {"rope_type": "default", "rope_theta": 2e3},
            },
        },
        "tied": {"tie_word_embeddings": True},
    },
    "seed_oss": {
        "all biases, tied": {
            "attention_out_bias": True, "mlp_bias": True, "tie_word_embeddings": True,
        },
        "no biases": {"attention_bias": False},
        "linear rope": {"rope_scaling": {"type": "linear", "factor": 2.5}},
    },
    "exaone4": {
        "no window": {"sliding_window": None, "layer_types": ["full_attention"] * 5},
        "every second layer": {"sliding_window_pattern": 2, "tie_word_embeddings": True},
        "layer types": {"num_hidden_layers": 3, "layer_types": LAYER_TYPES},
        "llama3 rope": {"rope_scaling": LLAMA3},
    },
    "glm4": {
        "whole heads, no biases, tied": {
            "partial_rotary_factor": 1.0, "attention_bias": False, "tie_word_embeddings": True,
        },
        "a quarter of heads of 40": {"head_dim": 40, "partial_rotary_factor": 0.25},
        "linear rope": {"rope_scaling": {"type": "linear", "factor": 2.5}},
    },
    "ministral3": {
        "constant queries, window": {
            "rope_parameters": {**TEMPERED, "llama_4_scaling_beta": 0.0}, "sliding_window": 5,
        },
        "hot every 4 positions, tied": {
            "rope_parameters": {
                **TEMPERED, "llama_4_scaling_beta": 1.5, "original_max_position_embeddings": 4,
            },
            "tie_word_embeddings": True,
        },
        "not stretched": {
            "rope_parameters": {
                "rope_type": "default", "rope_theta": 1e4, "llama_4_scaling_beta": 0.1,
                "original_max_position_embeddings": 16,
            },
        },
    },
    "cohere": {
        "untied, biases": {"tie_word_embeddings": False, "attention_bias": True},
        "logits as they are": {"logit_scale": 1.0},
        "linear rope": {"rope_scaling": {"type": "linear", "factor": 2.5}},
    },
    "cohere2": {
        "untied, biases": {"tie_word_embeddings": False, "attention_bias": True},
        "every second layer": {"sliding_window_pattern": 2, "logit_scale": 0.25},
        "layer types": {"num_hidden_layers": 3, "layer_types": LAYER_TYPES},
    },
    "starcoder2": {
        "untied, no biases": {"tie_word_embeddings": False, "use_bias": False},
        "window": {"sliding_window": 5},
        "GELU itself": {"hidden_act": "gelu"},
    },
    "nemotron": {
        "biases, whole heads": {
            "attention_bias": True, "mlp_bias": True, "partial_rotary_factor": 1.0,
        },
        "tied, other activation": {"tie_word_embeddings": True, "hidden_act": "silu"},
        "linear rope": {"rope_scaling": {"type": "linear", "factor": 2.5}},
    },
    "stablelm": {
        "in parallel": {"use_parallel_residual": True},
        "in parallel, seven layers": {"use_parallel_residual": True, "num_hidden_layers": 7},
        "no biases, a quarter of heads, tied": {
            "use_qkv_bias": False, "hidden_size": 128, "partial_rotary_factor": 0.25,
            "tie_word_embeddings": True,
        },
    },
    "minicpm": {
        "tied": {"tie_word_embeddings": True, "scale_emb": 12, "scale_depth": 1.4},
        "biases": {"attention_bias": True, "dim_model_base": 256},
        "longrope": {
            "rope_scaling": {
                key: value[:16] if isinstance(value, list) else value
                for key, value in LONGROPE.items()
            },
            "hidden_size": 128, "original_max_position_embeddings": 16,
        },
    },
    "granitemoehybrid": {
        "nothing rotates, tied": {"position_embedding_type": None, "tie_word_embeddings": True},
        "another word for that": {"position_embedding_type": "nope", "attention_bias": True},
        "old word for attention": {"layer_types": ["attention"] * 3},
    },
    "olmo2": {
        "heads of what the width leaves them": {"hidden_size": 128, "num_attention_heads": 8},
        "biases, tied": {"attention_bias": True, "tie_word_embeddings": True},
        "linear rope": {"rope_scaling": {"type": "linear", "factor": 2.5}},
    },
}  # fmt: skip


def _config(family: str, changes: Config) -> dict[str, object]:
    config = tiny_config(family, **changes)
    return {key: value for key, value in config.items() if value is not None or key not in DROPPED}


CASES = {
    f"{family}: {name}": _config(family, changes)
    for family in FAMILIES
    for name, changes in {**ODD_SIZES, **VARIANTS.get(family, {})}.items()
}

# What llama.cpp takes for granted in a family, whatever the file says.
LLAMACPP_TAKES: dict[str, Config] = {
    "mistral": {"sliding_window": None},
    "gemma2": {"query_pre_attn_scalar": 64},
    "gemma3_text": {"query_pre_attn_scalar": 64, "num_hidden_layers": 7},
    "phi3": {"head_dim": None, "hidden_size": 128, "sliding_window": None},
    "exaone4": {"num_hidden_layers": 64},  # Fewer have no window.
}
LLAMACPP_CASES: dict[str, tuple[str, Config]] = {
    **{family: (family, LLAMACPP_TAKES.get(family, {})) for family in FAMILIES},
    "stablelm in parallel": ("stablelm", {"use_parallel_residual": True}),
    "starcoder2, seven layers": ("starcoder2", {"num_hidden_layers": 7}),
    "granite, tied, biases": (
        "granite",
        {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True},
    ),
    "granite 4 where nothing rotates": ("granitemoehybrid", {"position_embedding_type": "nope"}),
    "glm4, a quarter of heads": ("glm4", {"head_dim": 64, "partial_rotary_factor": 0.25}),
    "exaone4, no window": (
        "exaone4",
        {"sliding_window": None, "layer_types": ["full_attention"] * 5},
    ),
}
