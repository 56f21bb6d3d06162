"""What a model is, as data: the one description that planner and runtime understand."""

from dataclasses import field, replace

from tonnage.core.block import Branch, Layer
from tonnage.core.checkpoint import TensorEntry
from tonnage.core.footprint import TextFacts
from tonnage.core.operands import NormKind
from tonnage.core.pooling import Pooling
from tonnage.core.record import record
from tonnage.core.rope import DynamicNtk, LongRope, RopeSpec

ROPE_FACTORS = "rope_factors"
SHORT_FACTORS, LONG_FACTORS = "rope_factors_short", "rope_factors_long"


def scale_name(matrix: str) -> str:
    """Return the name of the vector with a matrix's scales, which few matrices have."""
    return f"{matrix}_scale"


@record
class ModelSpec:
    """A decoder-only language model: embedding, layers of residual branches, final norm and head.

    weights: canonical name -> where it lies. Names: `embed`, `head` (absent when tied),
    `final_norm`, `final_norm_bias` (with a biased norm), `positions` (optional, a learned vector
    per position), `rope_factors` (optional, divides the inverse frequencies of rope 0; or a short
    and a long one, of which the context decides), and for layer i `layers.i.` + the roles that its
    branches name. Matrices are (out, in). A matrix `x` in a format without scales of its own may
    have the vector `x_scale`: one, one per row, or one per 128 x 128 elements, row after row.
    norm_offset is added to every norm weight while loading (1.0 for Gemma in Hugging Face form).
    norm: of what the head reads. logit_scale: of the logits.
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
    norm: NormKind = "rms"
    logit_scale: float = 1.0
    weights: dict[str, TensorEntry] = field(default_factory=dict)
    has_head: bool = True
    pooling: Pooling | None = None
    unmet_pooling: str = ""
    text: TextFacts | None = field(default=None, compare=False)

    def for_context(self, context_tokens: int) -> "ModelSpec":
        """Return the model as a plan of so many positions per sequence runs it."""
        if not self.depends_on_context:
            return self
        ropes = tuple(rope.for_context(context_tokens) for rope in self.ropes)
        weights = dict(self.weights)
        factors = {name: weights.pop(name, None) for name in (SHORT_FACTORS, LONG_FACTORS)}
        scaling = self.ropes[0].scaling
        if isinstance(scaling, LongRope):
            is_long = context_tokens > scaling.original_context
            chosen = factors[LONG_FACTORS if is_long else SHORT_FACTORS]
            if chosen is not None:
                weights[ROPE_FACTORS] = chosen
        return replace(self, ropes=ropes, weights=weights)

    @property
    def depends_on_context(self) -> bool:
        """Whether plans with other contexts may have other ropes."""
        return any(isinstance(rope.scaling, LongRope | DynamicNtk) for rope in self.ropes)

    @property
    def default_context(self) -> int:
        """Positions that need no stretching by the length of the context."""
        borders = (
            rope.scaling.original_context
            for rope in self.ropes
            if isinstance(rope.scaling, DynamicNtk)
        )
        return min([self.context_length, *borders])

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
