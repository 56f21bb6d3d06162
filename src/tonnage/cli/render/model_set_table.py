"""What a server of one or several models would take: in lines, as a table, as JSON."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tonnage.cli.render.bench_table import bar
from tonnage.core.units import format_bytes

if TYPE_CHECKING:
    from tonnage.engine.model_set import Offer, Roster

_NAME = 26


def placement_lines(roster: "Roster") -> Iterator[str]:
    """Yield who is in memory beside whom, who takes turns, and what would change that."""
    offers = roster.offers
    beside = sum(offer.together for offer in offers)
    how = f"{beside} of {len(offers)} models side by side" if beside > 1 else "One model at a time"
    if beside == 1:
        how = "One model at a time beside the pinned one"
    yield (
        f"{how} within {format_bytes(roster.budget_bytes)}, of which the process takes "
        f"{format_bytes(roster.process_bytes)}:"
    )
    for offer in offers:
        size = format_bytes(offer.resident_bytes)
        tokens = f"a context of {offer.context_tokens:,} tokens, pages for {offer.pages_tokens:,}"
        yield f"  {offer.name:{_NAME}} {size:>10}  {tokens}; {_place(offer, roster)}"
    if beside < len(offers):
        needed = roster.all_together_bytes
        yield (
            f"  All of them side by side would take {format_bytes(needed)} at least "
            f"(--memory {-(-needed >> 20)}MiB, {format_bytes(needed - roster.budget_bytes)} more)."
        )


def _place(offer: "Offer", roster: "Roster") -> str:
    if offer.together:
        return "pinned" if offer.pinned else "side by side"
    loose = sum(other.together and not other.pinned for other in roster.offers)
    if not loose:
        return "in turns"
    if offer.in_place_of < loose:
        return f"in place of {offer.in_place_of} of the others"
    return "in place of the others"


def render_roster(roster: "Roster") -> str:
    """Return every item of the process and of its models, with their shares of the budget."""
    return "\n".join(_lines(roster))


def _lines(roster: "Roster") -> Iterator[str]:
    budget = roster.budget_bytes
    rest = roster.process_bytes - roster.server_bytes
    yield _row("interpreter and libraries", "host", rest, budget)
    yield _row("server", "host", roster.server_bytes, budget)
    for offer in roster.offers:
        yield ""
        if len(roster.offers) > 1:
            yield f"{offer.name}: {_place(offer, roster)}"
        yield from (_row(item.name, item.kind, item.planned_bytes, budget) for item in offer.items)
        yield f"{offer.name:{_NAME}} {'sum':8} {format_bytes(offer.loading_bytes):>11}"
        yield (
            f"context {offer.context_tokens:,} tokens, pages for {offer.pages_tokens:,} in "
            f"{offer.options.kv_format}, {offer.options.concurrency} answers at once"
        )
    yield ""
    if len(roster.offers) > 1:
        yield from placement_lines(roster)
    yield (
        f"{format_bytes(roster.most_bytes)} at most, "
        f"{format_bytes(budget - roster.most_bytes)} below the budget of {format_bytes(budget)}"
    )


def _row(name: str, kind: str, num_bytes: int, budget_bytes: int) -> str:
    share = num_bytes / budget_bytes
    return f"{name:{_NAME}} {kind:8} {format_bytes(num_bytes):>11}  {bar(share)} {share:5.1%}"


def roster_json(roster: "Roster") -> str:
    """Return one JSON object: the process, every model with its items, and who is beside whom."""
    return json.dumps(
        {
            "budget_bytes": roster.budget_bytes,
            "process_bytes": roster.process_bytes,
            "server_bytes": roster.server_bytes,
            "most_bytes": roster.most_bytes,
            "all_side_by_side_bytes": roster.all_together_bytes,
            "models": [_values(offer) for offer in roster.offers],
        }
    )


def _values(offer: "Offer") -> dict[str, Any]:
    options = offer.options
    return {
        "id": offer.name,
        "pinned": offer.pinned,
        "side_by_side": offer.together,
        "in_place_of": offer.in_place_of,
        "planned_bytes": offer.resident_bytes,
        "loading_bytes": offer.loading_bytes,
        "items": [asdict(item) for item in offer.items],
        "context_tokens": offer.context_tokens,
        "pages_tokens": offer.pages_tokens,
        "concurrency": options.concurrency,
        "kv_format": options.kv_format,
        "max_batch_tokens": options.max_batch_tokens,
        "threads": options.threads,
        "formats": options.formats,
        "quality": asdict(offer.quality),
    }
