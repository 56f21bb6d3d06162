"""Speculation for a loaded model."""

from tonnage.core.drafts import DraftCounts
from tonnage.core.errors import RequestError
from tonnage.core.plan import Plan
from tonnage.engine.expectation import Expectation
from tonnage.engine.step_loop import StepLoop
from tonnage.speculation.speculation import Speculation

# What a row adds to a step where this machine was not measured, as a share of one row's step.
_ROW_SHARE = 0.08


def require_rows(plan: Plan) -> None:
    """Raise RequestError unless `plan` has rows of logits for drafts."""
    if plan.max_logit_rows <= plan.concurrency:
        raise RequestError(
            f"The plan has {plan.max_logit_rows} rows of logits for {plan.concurrency} sequences, "
            "so none are left for drafts; plan again with --speculate, or leave it out here."
        )


def speculate(loop: StepLoop, plan: Plan, expectation: Expectation) -> DraftCounts:
    """Let `loop` draft from now on; return what counts it."""
    position = plan.context_tokens // 4

    def forecast_s(num_rows: int) -> float:
        speed = expectation.decode_tokens_per_s(num_rows, position)
        return num_rows / speed if speed else 1 + _ROW_SHARE * (num_rows - 1)

    source = Speculation(forecast_s)
    loop.draft_source = source
    return source.counts
