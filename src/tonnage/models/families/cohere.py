"""Command R (Cohere 2024): attention and MLP in parallel, LayerNorm without bias, scaled logits.

Those with norms of queries and keys (Command R+) are refused: they differ from head to head.
"""

from tonnage.models.family import Family

COHERE = Family(
    name="cohere",
    gguf_architecture="command-r",
    hf_model_types=("cohere",),
    parallel=True,
    norm="layer",
    eps_setting="layer_norm_eps",
    rope_base=5e5,
    rope_style="interleaved",
    gguf_rope_style="interleaved",
    gguf_defaults={"logit_scale": 1.0},
    not_there="norms of queries and keys (Command R+)",
    hf_defaults={
        "hidden_act": "silu",
        "attention_bias": False,
        "layer_norm_eps": 1e-5,
        "logit_scale": 0.0625,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
    },
)
