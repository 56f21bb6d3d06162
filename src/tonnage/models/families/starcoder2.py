"""StarCoder 2 (Lozhkov et al. 2024): LayerNorm and a plain MLP, with biases everywhere.

GGUF files say nothing of the window that a config.json may have.
"""

from tonnage.models.family import Family

STARCODER2 = Family(
    name="starcoder2",
    gguf_architecture="starcoder2",
    hf_model_types=("starcoder2",),
    activation="gelu_tanh",
    gated=False,
    norm="biased layer",
    eps_setting="norm_epsilon",
    bias_settings={"use_bias": "qkvo"},
    mlp_bias_setting="use_bias",
    hf_defaults={
        "hidden_act": "gelu_pytorch_tanh",
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "norm_epsilon": 1e-5,
        "sliding_window": None,
        "tie_word_embeddings": True,
        "use_bias": True,
        "mlp_type": None,  # Not read by transformers, as what follows.
        "norm_type": None,
    },
    hf_names={
        "up": "mlp.c_fc.weight",
        "up_bias": "mlp.c_fc.bias",
        "down": "mlp.c_proj.weight",
        "down_bias": "mlp.c_proj.bias",
    },
)
