"""From options as a user states them to the values that planning and serving go by."""

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from tonnage.core.quality import quality_bound
from tonnage.core.units import parse_bytes
from tonnage.engine.options import EngineOptions, PlanOptions
from tonnage.planner.search.constraints import Constraints

if TYPE_CHECKING:
    from tonnage.engine.build import ServingOptions

_FIELDS = frozenset(field.name for field in fields(Constraints))


def constraints_of(options: PlanOptions, serving: "ServingOptions | None" = None) -> Constraints:
    """Return what bounds the planner: every option under its own name, and what `serving` takes.

    Raises RequestError for an unknown quality.
    """
    stated: dict[str, Any] = {name: value for name, value in options.items() if name in _FIELDS}
    stated["formats"] = tuple(sorted((options.get("formats") or {}).items()))
    stated["max_kld"] = quality_bound(options.get("quality"))
    rows = max(options.get("max_logit_rows", 1), options.get("concurrency", 1))
    stated["max_logit_rows"] = rows
    if serving is not None:
        stated["max_logit_rows"] = rows + draft_rows(serving.speculate)
        stated["server_bytes"] = serving.server_bytes
        stated["with_structured_output"] = serving.with_structured_output
        stated["share_pages"] = serving.share_pages
        stated["with_store"] = serving.disk is not None
    return Constraints(**stated)


def draft_rows(speculate: str) -> int:
    """Return how many rows of logits a plan has for drafts."""
    if speculate == "off":
        return 0
    from tonnage.speculation.speculation import MOST_DRAFTS

    return MOST_DRAFTS


def serving_of(options: EngineOptions, serving: "ServingOptions | None" = None) -> "ServingOptions":
    """Return how a model is served with `options`, the rest as in `serving`.

    Raises UnitError for a prefix cache that is no number of bytes.
    """
    from tonnage.engine.build import ServingOptions
    from tonnage.engine.disk_tier import DiskOptions

    serving, size = serving or ServingOptions(), options.get("prefix_cache")
    serving = replace(serving, speculate=options.get("speculate", serving.speculate))
    if size is None:
        return serving
    return replace(serving, disk=DiskOptions(parse_bytes(size) if isinstance(size, str) else size))
