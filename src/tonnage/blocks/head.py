"""The output: logits of the rows that are asked for, and sums of hidden states."""

from collections.abc import Mapping

from tonnage.core.model_spec import ModelSpec
from tonnage.core.operands import ProductPart
from tonnage.core.steps import Matmul, Norm, PoolHidden, Step

# Divergence per squared relative error, as `Block.sensitivity`; a table that is both counts twice.
# That of learned positions was not measured.
SENSITIVITY: Mapping[str, float] = {"embed": 2.51, "head": 2.51, "positions": 2.51}


def head_name(spec: ModelSpec) -> str:
    """Return the canonical name of the head's matrix."""
    return "embed" if spec.tied_head else "head"


def head_steps(spec: ModelSpec, norm: Norm, max_logit_rows: int, slots: int) -> list[Step]:
    """Return the steps behind the final norm, which pooling does again for rows without logits.

    slots: of sums.
    """
    pool = PoolHidden(
        x=norm.x,
        weight="final_norm",
        added=norm.added,
        added_weight=norm.added_weight,
        eps=norm.eps,
        cols=spec.d_model,
        sums="pooled",
        slots=slots,
        centred=norm.centred,
        bias=norm.bias,
    )
    logits = Matmul(
        parts=(ProductPart(head_name(spec), None, 0),),
        input=norm.out,
        out="logits",
        out_cols=spec.vocab_size,
        cap=spec.final_softcap,
        gather=True,
        out_rows=max_logit_rows,
        scale=spec.logit_scale,
    )
    return [pool, logits]
