"""OLMo 2 (OLMo et al. 2025): norms of results and not of inputs, and of q and k over all heads.

GGUF files of OLMo 3 say `olmo2` too; they have a window, and are refused by that.
"""

from tonnage.models.family import Family

OLMO2 = Family(
    name="olmo2",
    gguf_architecture="olmo2",
    hf_model_types=("olmo2",),
    qk_norm="all",
    pre_norms=False,
    post_norms=True,
    hf_defaults={
        "hidden_act": "silu",
        "attention_bias": False,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
    },
)
