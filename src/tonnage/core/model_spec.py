"""What a model is, as data: the one description that planner and runtime understand."""

from dataclasses import dataclass, field

from tonnage.core.block import Branch, Layer
from tonnage.core.checkpoint import TensorEntry
from tonnage.core.footprint import TextFacts
from tonnage.core.pooling import Pooling
from tonnage.core.rope import RopeSpec

ROPE_FACTORS = "rope_factors"


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A decoder-only language model: embedding, layers of residual branches, final norm and head.

    weights: canonical name -> where it lies. Names: `embed`, `head` (absent when tied),
    `final_norm`, `rope_factors` (optional, divides the inverse frequencies of rope 0), and for
    layer i `layers.i.` + the roles that its branches name. Matrices are (out, in).
    norm_offset is added to every norm weight while loading (1.0 for Gemma in Hugging Face form).
    has_head: whether logits mean anything; a base model has none, and gives vectors alone.
    pooling: how its hidden states were trained to become one vector, None where they were not.
    unmet_pooling: what its files ask of such a vector that is not implemented, empty for nothing.
    text: how large its tokenizer is, None where nobody looked; no part of what the model is.
    """

    family: str
    vocab_size: int
    d_model: int
    layers: tuple[Layer, ...]
    ropes: tuple[RopeSpec, ...]
    context_length: int
    norm_eps: float
    embed_scale: float = 1.0
    final_softcap: float = 0.0
    norm_offset: float = 0.0
    weights: dict[str, TensorEntry] = field(default_factory=dict)
    has_head: bool = True
    pooling: Pooling | None = None
    unmet_pooling: str = ""
    text: TextFacts | None = field(default=None, compare=False)

    @property
    def tied_head(self) -> bool:
        """Whether logits are made with the embedding matrix, as in a model without a head."""
        return "head" not in self.weights

    @property
    def branches(self) -> tuple[tuple[str, Branch], ...]:
        """All branches in their order, each with the prefix of its tensors' names."""
        return tuple(
            (f"layers.{index}.", branch)
            for index, layer in enumerate(self.layers)
            for branch in layer.branches
        )
