"""`tonnage pull`, `list` and `rm`."""

import os
import sys
from argparse import Namespace
from collections.abc import Sequence

from tonnage.cli.render.terminal import PullProgress
from tonnage.core.units import format_bytes
from tonnage.store.catalog import open_catalogs
from tonnage.store.source import ModelListing, list_models, remove, resolve


def pull(args: Namespace) -> int:
    """Bring a model here and print its path."""
    catalogs = open_catalogs(args.catalog, os.environ)
    print(resolve(args.model, catalogs=catalogs, progress=PullProgress(sys.stderr)).path)
    return 0


def list_all(args: Namespace) -> int:
    """Print every model that is known or here."""
    rows = list_models(open_catalogs(args.catalog, os.environ))
    if args.json:
        import json

        print(json.dumps([_as_json(row) for row in rows], indent=1))
    else:
        sys.stdout.write(_table(rows))
    return 0


def remove_models(args: Namespace) -> int:
    """Delete pulled models, telling what each frees."""
    for name in args.models:
        print(f"{name}: {format_bytes(remove(name))} freed")
    return 0


def _as_json(row: ModelListing) -> dict[str, object]:
    about = row.entry
    return {
        "name": row.name,
        "kind": about and about.kind,
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
        return (row.name, "", size, "", "", f"{row.path} (of another catalog)")
    others = "" if about.publisher == about.owner else f" ({about.publisher})"
    return (row.name, about.kind, size, about.owner + others, about.licence, _state(row))


def _state(row: ModelListing) -> str:
    if row.state == "partial":
        return f"{format_bytes(row.have_bytes)} of it here"
    return str(row.path) if row.state == "pulled" else row.state
