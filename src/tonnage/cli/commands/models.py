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
    return {
        "name": row.name,
        "state": row.state,
        "num_bytes": row.num_bytes,
        "have_bytes": row.have_bytes,
        "path": str(row.path),
        "listed": row.listed,
    }


def _table(rows: Sequence[ModelListing]) -> str:
    lines = [("NAME", "SIZE", "STATE")]
    for row in rows:
        state = str(row.state)
        if row.state == "partial":
            state = f"{format_bytes(row.have_bytes)} of it here"
        elif row.state == "pulled":
            state = f"{row.path}" if row.listed else f"{row.path} (of another catalog)"
        lines.append((row.name, format_bytes(row.num_bytes), state))
    names, sizes = (max(len(line[i]) for line in lines) for i in (0, 1))
    return "".join(f"{n:<{names}}  {s:>{sizes}}  {state}\n" for n, s, state in lines)
