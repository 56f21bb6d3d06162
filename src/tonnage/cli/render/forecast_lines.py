"""The forecast as `tonnage plan` and `tonnage run` show it, beside the fact where there is one."""

from collections.abc import Sequence
from typing import Any

from tonnage.core.slowdown import Slowdown
from tonnage.planner.cost.forecast import Forecast

NOT_MEASURED = "forecast: this machine was not measured yet; `tonnage doctor --measure` takes 2 s"


def forecast_values(expected: Forecast | None) -> dict[str, Any] | None:
    """Return the forecast as JSON values, None for a machine that was not measured."""
    if expected is None:
        return None
    return {
        "decode_tokens_per_s": expected.decode_tokens_per_s,
        "prefill_tokens_per_s": expected.prefill_tokens_per_s,
        "time_to_first_token_ns": expected.time_to_first_token_ns,
        "bottleneck": expected.bottleneck,
        "prompt_tokens": expected.prompt_tokens,
        "position": expected.position,
    }


def render_forecast(expected: Forecast | None) -> str:
    """Return the line of `tonnage plan`."""
    if expected is None:
        return NOT_MEASURED
    return (
        f"forecast: {expected.decode_tokens_per_s:,.1f} tokens/s behind {expected.position:,} "
        f"tokens, limited by {expected.bottleneck};\n"
        f"  a prompt of {expected.prompt_tokens:,} at {expected.prefill_tokens_per_s:,.0f} "
        f"tokens/s, its first token after {expected.time_to_first_token_ns / 1e6:,.0f} ms"
    )


def render_comparison(
    expected: Forecast | None, time_to_first_token_ns: int, decode_tokens_per_s: float
) -> str:
    """Return forecast beside fact, a line each; decode 0 when there was one token only."""
    if expected is None:
        return NOT_MEASURED
    lines = [
        f"{'':26} {'forecast':>11} {'fact':>11}",
        f"{'first token, ms':26} {expected.time_to_first_token_ns / 1e6:11,.1f} "
        f"{time_to_first_token_ns / 1e6:11,.1f}",
    ]
    if decode_tokens_per_s:
        lines.append(
            f"{'decode, tokens/s':26} {expected.decode_tokens_per_s:11,.1f} "
            f"{decode_tokens_per_s:11,.1f}"
        )
    return "\n".join(lines)


def slowdown_values(slowdowns: Sequence[Slowdown]) -> list[dict[str, str]]:
    """Return the slowdowns as JSON values."""
    return [{"cause": slowdown.cause, "sentence": slowdown.sentence} for slowdown in slowdowns]
