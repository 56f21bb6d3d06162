"""Granite 4 without experts (IBM 2025): Granite 3 with other names, some without rotary positions.

GGUF files say `granite`.
"""

from tonnage.models.family import Family

GRANITE4 = Family(
    name="granite4",
    gguf_architecture=None,
    hf_model_types=("granitemoehybrid",),
    rope_setting="position_embedding_type",
    hidden_setting="shared_intermediate_size",
    not_there="experts, and Mamba layers (the H models)",
    hf_defaults={
        "hidden_act": "silu",
        "attention_bias": False,
        "max_position_embeddings": 2048,
        "shared_intermediate_size": 1024,
        "layer_types": None,
        "position_embedding_type": None,
        "embedding_multiplier": 1.0,
        "residual_multiplier": 1.0,
        "attention_multiplier": 1.0,
        "logits_scaling": 1.0,
        "normalization_function": None,  # Not read there either, as what follows.
        "init_method": None,
        "num_experts_per_tok": None,
        "time_step_limit": None,
        **dict.fromkeys(
            f"mamba_{part}"
            for part in (
                "n_heads", "n_groups", "d_state", "d_head", "d_conv", "expand", "chunk_size",
                "conv_bias", "proj_bias",
            )
        ),
    },
    hf_names={
        "gate_up": "shared_mlp.input_linear.weight",
        "down": "shared_mlp.output_linear.weight",
    },
)  # fmt: skip
