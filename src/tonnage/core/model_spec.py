"""What a model is, as data: the one description that planner and runtime understand."""

import math
from dataclasses import dataclass, field
from typing import Literal

from tonnage.core.checkpoint import TensorEntry
from tonnage.core.footprint import TextFacts
from tonnage.core.pooling import Pooling


@dataclass(frozen=True, slots=True)
class RopeSpec:
    """Rotary position embedding (Su et al. 2021) of the first `dim` elements of each head.

    style: `half` pairs element i with i + dim/2, `interleaved` pairs 2i with 2i+1.
    factor: linear scaling, positions are divided by it. llama3: (factor, low_freq_factor,
    high_freq_factor, original_context) of Llama 3.1, or None.
    """

    dim: int
    base: float
    style: Literal["half", "interleaved"] = "half"
    factor: float = 1.0
    llama3: tuple[float, float, float, int] | None = None

    def inverse_frequencies(self) -> tuple[float, ...]:
        """Return dim/2 angles per position, scaling applied."""
        plain = [self.base ** (-2.0 * i / self.dim) for i in range(self.dim // 2)]
        if self.llama3 is not None:
            plain = [self._llama3(freq) for freq in plain]
        return tuple(freq / self.factor for freq in plain)

    def _llama3(self, freq: float) -> float:
        assert self.llama3 is not None
        factor, low, high, original = self.llama3
        turns = original * freq / (2 * math.pi)
        if turns < low:
            return freq / factor
        if turns > high:
            return freq
        smooth = (turns - low) / (high - low)
        return (1 - smooth) * freq / factor + smooth * freq


@dataclass(frozen=True, slots=True)
class AttentionSpec:
    """Grouped-query attention; K and V may have different sizes per head.

    scale multiplies q·k. window: how many last positions (own one included) are seen, 0 for all.
    softcap: cap·tanh(score/cap), 0 for none. rope: index into ModelSpec.ropes.
    """

    num_heads: int
    num_kv_heads: int
    k_dim: int
    v_dim: int
    scale: float
    rope: int = 0
    window: int = 0
    softcap: float = 0.0
    bias: bool = False
    out_bias: bool = False
    qk_norm: bool = False


@dataclass(frozen=True, slots=True)
class MlpSpec:
    """down(activation(gate(x)) * up(x)) with `hidden` inner elements."""

    hidden: int
    activation: Literal["silu", "gelu_tanh"] = "silu"


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """x += attention(norm(x)); x += mlp(norm(x)); post_norms: both results are normed once more."""

    attention: AttentionSpec
    mlp: MlpSpec
    post_norms: bool = False


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A decoder-only transformer.

    weights: canonical name -> where it lies. Names: `embed`, `head` (absent when tied),
    `final_norm`, `rope_factors` (optional, divides the inverse frequencies of rope 0), and per
    layer i `layers.i.` + attn_norm, q, k, v, q_bias, k_bias, v_bias, q_norm, k_norm, o, o_bias,
    post_attn_norm, mlp_norm, gate, up, down, post_mlp_norm. Matrices are (out, in).
    norm_offset is added to every norm weight while loading (1.0 for Gemma in Hugging Face form).
    pooling: how its hidden states were trained to become one vector, None where they were not.
    text: how large its tokenizer is, None where nobody looked; no part of what the model is.
    """

    family: str
    vocab_size: int
    d_model: int
    layers: tuple[LayerSpec, ...]
    ropes: tuple[RopeSpec, ...]
    context_length: int
    norm_eps: float
    embed_scale: float = 1.0
    final_softcap: float = 0.0
    norm_offset: float = 0.0
    weights: dict[str, TensorEntry] = field(default_factory=dict)
    pooling: Pooling | None = None
    text: TextFacts | None = field(default=None, compare=False)

    @property
    def tied_head(self) -> bool:
        """Whether the output head is the embedding matrix."""
        return "head" not in self.weights
