"""Nemotron and Minitron (Parmar et al. 2024): LayerNorm, and a plain MLP with a squared ReLU.

The first half of each head rotates. Hugging Face weights leave 1 out of the norms; GGUF files hold
it.
"""

from tonnage.models.family import Family

NEMOTRON = Family(
    name="nemotron",
    gguf_architecture="nemotron",
    hf_model_types=("nemotron",),
    activation="relu2",
    gated=False,
    norm="biased layer",
    eps_setting="norm_eps",
    norm_offset=1.0,
    hf_defaults={
        "hidden_act": "relu2",
        "attention_bias": False,
        "mlp_bias": False,
        "max_position_embeddings": 4096,
        "norm_eps": 1e-5,
        "partial_rotary_factor": 0.5,
        "rope_percent": None,  # Not read: an old name of that.
    },
)
