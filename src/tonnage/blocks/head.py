"""The output: logits of the rows that are asked for, and sums of hidden states."""

from collections.abc import Mapping

from tonnage.core.model_spec import ModelSpec
from tonnage.core.operands import Activations, ProductPart
from tonnage.core.steps import Matmul, PoolHidden, Step

# Divergence per squared relative error, as `Block.sensitivity`; a table that is both counts twice.
SENSITIVITY: Mapping[str, float] = {"embed": 2.51, "head": 2.51}


def head_name(spec: ModelSpec) -> str:
    """Return the canonical name of the head's matrix."""
    return "embed" if spec.tied_head else "head"


def head_steps(
    spec: ModelSpec, normed: Activations, post_norm: str | None, max_logit_rows: int, slots: int
) -> list[Step]:
    """Return the steps behind the final norm.

    normed: its result. post_norm: of the last branch; pooling does it again for rows without
    logits, and the final norm with it. slots: of sums.
    """
    pool = PoolHidden(
        x="x",
        weight="final_norm",
        added=None if post_norm is None else "branch",
        added_weight=post_norm,
        eps=spec.norm_eps,
        cols=spec.d_model,
        sums="pooled",
        slots=slots,
    )
    logits = Matmul(
        parts=(ProductPart(head_name(spec), None, 0),),
        input=normed,
        out="logits",
        out_cols=spec.vocab_size,
        cap=spec.final_softcap,
        gather=True,
        out_rows=max_logit_rows,
    )
    return [pool, logits]
