"""The input: a row of the embedding per token, and the angles of its position."""

from tonnage.core.model_spec import ModelSpec
from tonnage.core.steps import Embed, RopeTable, Step


def embedding_steps(spec: ModelSpec) -> list[Step]:
    """Return the steps before the first layer."""
    positions = "positions" if "positions" in spec.weights else None
    embed = Embed("embed", spec.embed_scale, "x", spec.d_model, positions)
    tables = (RopeTable(i, rope.dim // 2, f"rope{i}") for i, rope in enumerate(spec.ropes))
    return [embed, *tables]
