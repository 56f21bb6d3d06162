"""`tonnage pull`, `list` and `rm`."""

import os
import sys
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tonnage.cli.render.choice_words import nats_in_words
from tonnage.cli.render.terminal import PullProgress
from tonnage.core.errors import TonnageError
from tonnage.core.units import format_bytes
from tonnage.store.catalog import HubModel, open_catalogs
from tonnage.store.source import ModelListing, ModelSource, list_models, remove, resolve


def pull(args: Namespace) -> int:
    """Bring a model here and print its path."""
    catalogs = open_catalogs(args.catalog, os.environ)
    print(resolve(args.model, catalogs=catalogs, progress=PullProgress(sys.stderr)).path)
    return 0


def list_all(args: Namespace) -> int:
    """Print every model that is known or here."""
    rows = list_models(open_catalogs(args.catalog, os.environ))
    fits = {} if args.memory is None else _fits(rows, args.memory)
    if args.json:
        import json

        told = [{**_as_json(row), **fits.get(row.name, {})} for row in rows]
        print(json.dumps(told, indent=1))
    elif args.memory is not None:
        print("\n".join(_fit_lines(rows, fits)))
    else:
        sys.stdout.write(_table(rows))
    return 0


def _fits(rows: Sequence[ModelListing], memory: str) -> dict[str, dict[str, Any]]:
    """Return what a plan within `memory` says of each model that is here, by name.

    Raises UnitError, BudgetError.
    """
    from tonnage.engine.headers import read_spec
    from tonnage.engine.planning import choose_here, fresh_budget
    from tonnage.store.audits import cached_audits

    budget = fresh_budget(memory)
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row.state != "pulled" or row.path is None:
            continue
        try:
            spec = read_spec(ModelSource(row.name, row.path, "gguf"))
        except TonnageError as error:
            found[row.name] = {"fits": False, "problem": str(error)}
            continue
        choice = choose_here(spec, budget, {}, cached_audits(row.path), compare=False)
        expected = choice.forecast
        found[row.name] = {
            "fits": choice.accepted,
            "total_bytes": choice.plan.total_bytes,
            "context_tokens": choice.plan.context_tokens,
            "mean_kld": choice.quality.mean_kld,
            "decode_tokens_per_s": None if expected is None else expected.decode_tokens_per_s,
        }
    return found


def _fit_lines(
    rows: Sequence[ModelListing], fits: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    """Yield a table of the models that are here, and a line about the others."""
    head = f"{'NAME':24} {'KIND':8} {'FITS':4} {'MEMORY':>10} {'CONTEXT':>8}"
    yield f"{head} {'NATS':>7} {'TOKENS/S':>8}"
    for row in rows:
        told = fits.get(row.name)
        if told is None:
            continue
        kind = _kind(row)
        begin = f"{row.name:24} {kind:8} {'yes' if told['fits'] else 'no':4} "
        if "problem" in told:
            yield f"{begin}{told['problem']}"
            continue
        speed = told["decode_tokens_per_s"]
        yield (
            f"{begin}{format_bytes(told['total_bytes']):>10} {told['context_tokens']:8,} "
            f"{told['mean_kld']:7.2g} {'' if speed is None else f'{speed:,.0f}':>8}"
        )
    away = len(rows) - len(fits)
    if away:
        yield f"{away} more are not here; what they take is known once they are pulled."
    yield "NATS: how far the weights would lie from the file;"
    yield f"  {nats_in_words()}."


def remove_models(args: Namespace) -> int:
    """Delete pulled models, telling what each frees."""
    for name in args.models:
        print(f"{name}: {format_bytes(remove(name))} freed")
    return 0


def _as_json(row: ModelListing) -> dict[str, object]:
    about = row.entry
    return {
        "name": row.name,
        "kind": _kind(row) or None,
        "owner": about and about.owner,
        "publisher": about and about.publisher,
        "licence": about and about.licence,
        "source": about and about.source,
        "state": row.state,
        "num_bytes": row.num_bytes,
        "have_bytes": row.have_bytes,
        "path": row.path and str(row.path),
        "listed": about is not None,
    }


def _table(rows: Sequence[ModelListing]) -> str:
    lines = [("NAME", "KIND", "SIZE", "OWNER (PUBLISHER)", "LICENCE", "STATE"), *map(_cells, rows)]
    name, kind, size, owner, licence, _ = (
        max(map(len, cells)) for cells in zip(*lines, strict=True)
    )
    return "".join(
        f"{n:<{name}}  {k:<{kind}}  {s:>{size}}  {o:<{owner}}  {terms:<{licence}}  {state}\n"
        for n, k, s, o, terms, state in lines
    )


def _cells(row: ModelListing) -> tuple[str, ...]:
    about = row.entry
    size = "" if row.num_bytes is None else format_bytes(row.num_bytes)
    if about is None:
        return (row.name, _kind(row), size, "", "", f"{row.path} (of another catalog)")
    others = "" if about.publisher == about.owner else f" ({about.publisher})"
    return (row.name, about.kind, size, about.owner + others, about.licence, _state(row))


def _kind(row: ModelListing) -> str:
    """Return base or instruct, of a model in no catalog by its file; empty where nobody knows."""
    if row.entry is not None:
        return row.entry.kind
    from tonnage.engine.facts import kind_of_file

    return (row.path and kind_of_file(row.path)) or ""


def _state(row: ModelListing) -> str:
    if row.state == "partial":
        return f"{format_bytes(row.have_bytes)} of it here"
    if row.state == "not pulled" and isinstance(row.entry, HubModel) and not _has_hub():
        return "not pulled (needs pip install 'tonnage[hub]')"
    return str(row.path) if row.state == "pulled" else row.state


def _has_hub() -> bool:
    from importlib.util import find_spec

    return find_spec("huggingface_hub") is not None
