"""What a server of one or several models would take: in lines, as a table, as JSON."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tonnage.cli.render.bench_table import bar
from tonnage.core.units import format_bytes

if TYPE_CHECKING:
    from tonnage.engine.model_set import ModelSet, PlacedModel

_NAME = 26


def placement_lines(model_set: "ModelSet") -> Iterator[str]:
    """Yield which models are co-resident, which are swapped, and what would change that."""
    models = model_set.models
    beside = sum(model.co_resident for model in models)
    how = f"{beside} of {len(models)} models side by side" if beside > 1 else "One model at a time"
    if beside == 1:
        how = "One model at a time beside the pinned one"
    yield (
        f"{how} within {format_bytes(model_set.budget_bytes)}, of which the process takes "
        f"{format_bytes(model_set.process_bytes)}:"
    )
    for model in models:
        size = format_bytes(model.resident_bytes)
        tokens = f"a context of {model.context_tokens:,} tokens, pages for {model.pages_tokens:,}"
        yield f"  {model.name:{_NAME}} {size:>10}  {tokens}; {_place(model, model_set)}"
    if beside < len(models):
        needed = model_set.all_resident_bytes
        more = format_bytes(needed - model_set.budget_bytes)
        yield (
            f"  All of them side by side would take {format_bytes(needed)} at least "
            f"(--memory {-(-needed >> 20)}MiB, {more} more)."
        )


def _place(model: "PlacedModel", model_set: "ModelSet") -> str:
    if model.co_resident:
        return "pinned" if model.pinned else "side by side"
    loose = sum(other.co_resident and not other.pinned for other in model_set.models)
    if not loose:
        return "swapped"
    if model.in_place_of < loose:
        return f"in place of {model.in_place_of} of the others"
    return "in place of the others"


def render_model_set(model_set: "ModelSet") -> str:
    """Return every item of the process and of its models, with their shares of the budget."""
    return "\n".join(_lines(model_set))


def _lines(model_set: "ModelSet") -> Iterator[str]:
    budget = model_set.budget_bytes
    rest = model_set.process_bytes - model_set.server_bytes
    yield _row("interpreter and libraries", "host", rest, budget)
    yield _row("server", "host", model_set.server_bytes, budget)
    for model in model_set.models:
        yield ""
        if len(model_set.models) > 1:
            yield f"{model.name}: {_place(model, model_set)}"
        yield from (_row(item.name, item.kind, item.planned_bytes, budget) for item in model.items)
        yield f"{model.name:{_NAME}} {'sum':8} {format_bytes(model.loading_bytes):>11}"
        yield (
            f"context {model.context_tokens:,} tokens, pages for {model.pages_tokens:,} in "
            f"{model.plan.kv.format}, {model.plan.concurrency} sequences at once"
        )
    yield ""
    if len(model_set.models) > 1:
        yield from placement_lines(model_set)
    yield (
        f"{format_bytes(model_set.most_bytes)} at most, "
        f"{format_bytes(budget - model_set.most_bytes)} below the budget of {format_bytes(budget)}"
    )


def _row(name: str, kind: str, num_bytes: int, budget_bytes: int) -> str:
    share = num_bytes / budget_bytes
    return f"{name:{_NAME}} {kind:8} {format_bytes(num_bytes):>11}  {bar(share)} {share:5.1%}"


def model_set_json(model_set: "ModelSet") -> str:
    """Return one JSON object: the process, every model with its items and its place."""
    return json.dumps(
        {
            "budget_bytes": model_set.budget_bytes,
            "process_bytes": model_set.process_bytes,
            "server_bytes": model_set.server_bytes,
            "most_bytes": model_set.most_bytes,
            "all_side_by_side_bytes": model_set.all_resident_bytes,
            "models": [_values(model) for model in model_set.models],
        }
    )


def _values(model: "PlacedModel") -> dict[str, Any]:
    choice, plan = model.placement.choice, model.plan
    return {
        "id": model.name,
        "pinned": model.pinned,
        "side_by_side": model.co_resident,
        "in_place_of": model.in_place_of,
        "planned_bytes": model.resident_bytes,
        "loading_bytes": model.loading_bytes,
        "items": [asdict(item) for item in model.items],
        "context_tokens": model.context_tokens,
        "pages_tokens": model.pages_tokens,
        "concurrency": plan.concurrency,
        "kv_format": plan.kv.format,
        "max_batch_tokens": plan.max_rows,
        "threads": plan.threads,
        "formats": dict(choice.workload.formats),
        "quality": asdict(choice.quality),
    }
