"""What `tonnage run` says of an answer beside its text: one JSON object, or a ledger."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tonnage.cli.render.forecast_lines import forecast_values, render_comparison, slowdown_values
from tonnage.machine.memory_use import peak_rss_bytes

if TYPE_CHECKING:
    from tonnage.engine.engine import Engine
    from tonnage.engine.generation import Generation


def ledger_lines(engine: "Engine", made: "Generation") -> str:
    """Return the ledger, the share of the bandwidth, and forecast beside fact."""
    from tonnage.cli.render.plan_table import render_ledger

    lines = [render_ledger(engine.ledger()), ""]
    speed = made.decode_tokens_per_s
    share = engine.expectation.bandwidth_share(speed, _middle(made))
    if share is not None and speed:
        lines.append(f"{'bandwidth share':26} {share:11.0%}  bytes touched per token over the best")
    expected = engine.expectation.forecast(_computed(made), _middle(made))
    lines.append(render_comparison(expected, made.time_to_first_token_ns, speed))
    return "\n".join(lines)


def answer_json(engine: "Engine", made: "Generation", load_ns: int, *, with_ledger: bool) -> str:
    """Return the object of `--json`, with the items of the process where they are wanted."""
    ledger = engine.ledger().to_dict() if with_ledger else {}
    return json.dumps({**result(engine, made, load_ns), **ledger})


def result(engine: "Engine", made: "Generation", load_ns: int) -> dict[str, Any]:
    """Return the object of `--json`.

    tokens: ids that were generated. finish_reason: stop or length. peak_rss_bytes: of this process
    from its start. drafts (with speculation): see DraftCounts. logprobs (when asked for): one entry
    per token, natural logarithms.
    """
    values: dict[str, Any] = {
        "model": engine.source.name,
        "text": made.text,
        "tokens": made.tokens,
        "num_prompt_tokens": len(made.prompt),
        "num_cached_tokens": made.num_cached_tokens,
        "num_generated_tokens": len(made.tokens),
        "finish_reason": made.finish_reason,
        "seed": made.seed,
        "isa": engine.runtime.kernels,
        "threads": engine.plan.threads,
        "load_ns": load_ns,
        "time_to_first_token_ns": made.time_to_first_token_ns,
        "decode_tokens_per_s": made.decode_tokens_per_s,
        "peak_rss_bytes": peak_rss_bytes(),
        "bandwidth_share": engine.expectation.bandwidth_share(
            made.decode_tokens_per_s, _middle(made)
        ),
        "forecast": forecast_values(engine.expectation.forecast(_computed(made), _middle(made))),
        "slowdown": slowdown_values(engine.expectation.slowdowns),
    }
    if engine.draft_counts is not None:
        values["drafts"] = asdict(engine.draft_counts)
    if made.options.logprobs is not None:
        values["logprobs"] = [
            {"token": one.token_id, "logprob": one.logprob, "top": [list(pair) for pair in one.top]}
            for one in made.logprobs
        ]
    return values


def _computed(made: "Generation") -> int:
    return len(made.prompt) - made.num_cached_tokens


def _middle(made: "Generation") -> int:
    return len(made.prompt) + len(made.tokens) // 2
