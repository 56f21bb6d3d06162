"""What tiny checkpoints of each family look like, as data: a new family is one entry here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

COMMON: dict[str, object] = {
    "vocab_size": 307,
    "hidden_size": 96,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "rms_norm_eps": 2.0**-17,
}
LLAMA3: dict[str, object] = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
SILU: dict[str, object] = {"hidden_act": "silu", "tie_word_embeddings": False}


@dataclass(frozen=True)
class TinyFamily:
    """A family's settings beside COMMON, and what its tensors are called.

    settings: of config.json; a function gives one from the others. norms: the norms of a layer
    without `_layernorm`, Hugging Face name -> GGUF name. qk_norm: norms of Q and K over each head,
    or over all heads together. biases: which of q, k, v, o have one. gguf_architecture:
    `general.architecture`. pairs_rows: its GGUF files hold the rows of Q and K so that pairs to
    rotate are neighbours. adds_one: norms leave out 1 in Hugging Face files. fused: which of `qkv`
    and `gate_up` are one tensor. norm_biases: norms have biases. eps: what settings call the
    epsilon of norms. mlp: the matrices of the MLP, Hugging Face name -> GGUF name. bias_settings:
    settings that give projections a bias, of which `mlp` stands for the MLP. own_head_dim:
    config.json may state the size of heads, which else follows from the width. renamed: Hugging
    Face names that are not the usual ones; gate and up that are one tensor there are two in GGUF
    files. interleaved: pairs to rotate are neighbours in folders too.
    """

    settings: Mapping[str, object]
    gguf_architecture: str
    norms: Mapping[str, str] = field(
        default_factory=lambda: {"input": "attn_norm", "post_attention": "ffn_norm"}
    )
    qk_norm: Literal["none", "head", "all"] = "none"
    biases: str = ""
    pairs_rows: bool = False
    adds_one: bool = False
    fused: tuple[str, ...] = ()
    norm_biases: bool = False
    eps: str = "rms_norm_eps"
    mlp: Mapping[str, str] = field(
        default_factory=lambda: {
            "gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down",
        }
    )  # fmt: skip
    bias_settings: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: {"attention_bias": tuple("qkvo"), "mlp_bias": ("mlp",)}
    )
    own_head_dim: bool = True
    renamed: Mapping[str, str] = field(default_factory=dict)
    interleaved: bool = False

    def biased(self, config: Mapping[str, object]) -> set[str]:
        """Return which of q, k, v, o and mlp have biases."""
        stated = (roles for key, roles in self.bias_settings.items() if config.get(key))
        return {*self.biases, *(role for roles in stated for role in roles)}


GEMMA: dict[str, object] = {
    "hidden_activation": "gelu_pytorch_tanh",
    "tie_word_embeddings": True,
    "head_dim": 64,
    "query_pre_attn_scalar": 16,
    "sliding_window": 5,
}
COHERE: dict[str, object] = {
    "hidden_act": "silu", "tie_word_embeddings": True, "logit_scale": 0.8125, "pad_token_id": None,
}  # fmt: skip
OLMO_NORMS = {"post_attention": "post_attention_norm", "post_feedforward": "post_ffw_norm"}
GEMMA_NORMS = {
    "input": "attn_norm",
    "post_attention": "post_attention_norm",
    "pre_feedforward": "ffn_norm",
    "post_feedforward": "post_ffw_norm",
}
TINY_FAMILIES = {
    "llama": TinyFamily({**SILU, "head_dim": 64}, "llama", pairs_rows=True),
    "mistral": TinyFamily({**SILU, "sliding_window": 6}, "llama", pairs_rows=True),
    "qwen2": TinyFamily({**SILU, "tie_word_embeddings": True}, "qwen2", biases="qkv"),
    "qwen3": TinyFamily({**SILU, "head_dim": 80}, "qwen3", qk_norm="head"),
    "gemma2": TinyFamily(
        {**GEMMA, "attn_logit_softcapping": 5.0, "final_logit_softcapping": 3.0},
        "gemma2",
        GEMMA_NORMS,
        adds_one=True,
    ),
    "gemma3_text": TinyFamily(
        {**GEMMA, "rope_theta": 1e6, "rope_local_base_freq": 1e4},
        "gemma3",
        GEMMA_NORMS,
        qk_norm="head",
        adds_one=True,
    ),
    # The fourth layer is the first one that rotates nothing. No token is for padding.
    "smollm3": TinyFamily(
        {
            **SILU,
            "tie_word_embeddings": True,
            "head_dim": 32,
            "num_hidden_layers": 5,
            "rope_theta": 2e6,
            "pad_token_id": None,
        },
        "smollm3",
        pairs_rows=True,
    ),
    "olmo2": TinyFamily(
        SILU,
        "olmo2",
        OLMO_NORMS,
        qk_norm="all",
    ),
    # No token is for padding. Half of each head rotates.
    "phi3": TinyFamily(
        {
            **SILU,
            "head_dim": 64,
            "partial_rotary_factor": 0.5,
            "sliding_window": 6,
            "pad_token_id": None,
        },
        "phi3",
        fused=("qkv", "gate_up"),
    ),
    "granite": TinyFamily(
        {
            **SILU,
            "head_dim": 32,
            "embedding_multiplier": 3.25,
            "residual_multiplier": 0.21875,
            "attention_multiplier": 0.15625,
            "logits_scaling": 0.8125,
        },
        "granite",
        pairs_rows=True,
    ),
    "granitemoehybrid": TinyFamily(
        {
            **SILU,
            "head_dim": 32,
            "embedding_multiplier": 3.25,
            "residual_multiplier": 0.21875,
            "attention_multiplier": 0.15625,
            "logits_scaling": 0.8125,
            "num_local_experts": 0,
            "mamba_n_heads": 1,
            "position_embedding_type": "rope",
            "layer_types": lambda config: ["full_attention"] * config["num_hidden_layers"],
            "shared_intermediate_size": lambda config: config["intermediate_size"],
        },
        "granite",
        pairs_rows=True,
        fused=("gate_up",),
        renamed={
            "mlp.gate_up_proj": "shared_mlp.input_linear",
            "mlp.down_proj": "shared_mlp.output_linear",
        },
    ),
    # The fourth layer is the first one that sees all. No token is for padding.
    "olmo3": TinyFamily(
        {
            **SILU,
            "num_hidden_layers": 5,
            "rope_theta": 5e5,
            "sliding_window": 6,
            "pad_token_id": None,
        },
        "olmo2",
        OLMO_NORMS,
        qk_norm="all",
    ),
    "seed_oss": TinyFamily(
        {**SILU, "head_dim": 40, "attention_bias": True},
        "seed_oss",
        {"input": "attn_norm", "post_attention": "post_attention_norm"},
        bias_settings={
            "attention_bias": tuple("qkv"),
            "attention_out_bias": ("o",),
            "mlp_bias": ("mlp",),
        },
    ),
    "exaone4": TinyFamily(
        {**SILU, "num_hidden_layers": 5, "sliding_window": 6},
        "exaone4",
        OLMO_NORMS,
        qk_norm="head",
    ),
    "glm4": TinyFamily(
        {
            **SILU,
            "head_dim": 48,
            "partial_rotary_factor": 0.5,
            "attention_bias": True,
            "pad_token_id": None,
        },
        "glm4",
        {
            "input": "attn_norm",
            "post_self_attn": "post_attention_norm",
            "post_attention": "ffn_norm",
            "post_mlp": "post_ffw_norm",
        },
        fused=("gate_up",),
        bias_settings={"attention_bias": tuple("qkv")},
        interleaved=True,
    ),
    # Queries grow every 16 positions. No token is for padding.
    "ministral3": TinyFamily(
        {
            **SILU,
            "head_dim": 32,
            "pad_token_id": None,
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 1e6,
                "factor": 4.0,
                "original_max_position_embeddings": 16,
                "beta_fast": 32.0,
                "beta_slow": 1.0,
                "mscale": 1.0,
                "mscale_all_dim": 1.0,
                "llama_4_scaling_beta": 0.125,
            },
        },
        "mistral3",
        pairs_rows=True,
    ),
    "cohere": TinyFamily(
        {**COHERE, "rope_theta": 5e5},
        "command-r",
        {"input": "attn_norm"},
        eps="layer_norm_eps",
        own_head_dim=False,
        interleaved=True,
    ),
    "cohere2": TinyFamily(
        {**COHERE, "num_hidden_layers": 5, "sliding_window": 6},
        "cohere2",
        {"input": "attn_norm"},
        eps="layer_norm_eps",
        own_head_dim=False,
        interleaved=True,
    ),
    "starcoder2": TinyFamily(
        {"hidden_act": "gelu_pytorch_tanh", "tie_word_embeddings": True, "use_bias": True},
        "starcoder2",
        norm_biases=True,
        eps="norm_epsilon",
        mlp={"c_fc": "ffn_up", "c_proj": "ffn_down"},
        bias_settings={"use_bias": (*"qkvo", "mlp")},
    ),
    "nemotron": TinyFamily(
        {"hidden_act": "relu2", "tie_word_embeddings": False, "partial_rotary_factor": 0.5},
        "nemotron",
        adds_one=True,
        norm_biases=True,
        eps="norm_eps",
        mlp={"up_proj": "ffn_up", "down_proj": "ffn_down"},
    ),
    "stablelm": TinyFamily(
        {**SILU, "partial_rotary_factor": 0.5, "use_qkv_bias": True},
        "stablelm",
        norm_biases=True,
        eps="layer_norm_eps",
        bias_settings={"use_qkv_bias": tuple("qkv")},
        own_head_dim=False,
    ),
    # Four layers, and widths of 96 or 128 over 64, have factors that are exact in float32.
    "minicpm": TinyFamily(
        {
            **SILU,
            "num_hidden_layers": 4,
            "scale_emb": 3.25,
            "scale_depth": 1.5,
            "dim_model_base": 64,
        },
        "minicpm",
        pairs_rows=True,
        own_head_dim=False,
    ),
}
FAMILIES = tuple(TINY_FAMILIES)
# Heads of 32 in place of 24, which follow from COMMON where a family does not say their size.
WIDE: dict[str, dict[str, object]] = {
    name: {"hidden_size": 128}
    for name, family in TINY_FAMILIES.items()
    if "head_dim" not in family.settings
}
