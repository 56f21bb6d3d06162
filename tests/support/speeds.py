"""A forecast that needs no machine: bytes over a bandwidth, multiply-adds over a rate."""

from collections.abc import Callable
from dataclasses import dataclass

from tonnage.core.plan import Plan


@dataclass(frozen=True)
class PlainSpeed:
    decode_tokens_per_s: float
    prefill_tokens_per_s: float
    time_to_first_token_ns: int
    bottleneck: str = "memory"


def plain_speed(
    bandwidth: float = 5e10, rate: float = 2e11, knee: int = 2
) -> Callable[[Plan], PlainSpeed]:
    """Return a forecast whose bandwidth grows no more above `knee` threads; the rate does not."""

    def predict(plan: Plan) -> PlainSpeed:
        threads = min(plan.threads, knee)
        decode_s = plan.weight_bytes / (bandwidth * threads) + 1e-4
        steps = -(-512 // plan.max_rows)
        prompt_s = (
            512 * sum(m.rows * m.cols for m in plan.matrices) / (rate * threads) + steps * decode_s
        )
        return PlainSpeed(1 / decode_s, 512 / prompt_s, round(1e9 * prompt_s))

    return predict
