"""Opening the engine that the options of a command ask for."""

import sys
from argparse import Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING

from tonnage.cli.terminal import LateProgress, StatusLine

if TYPE_CHECKING:
    from tonnage.engine import Engine


def open_engine(args: Namespace, **more: int) -> "Engine":
    """Return the engine that `args` ask for; a load that takes long shows itself on a terminal.

    more: other numbers that Engine.open takes.
    """
    from tonnage.engine import Engine

    status = StatusLine(sys.stderr)
    try:
        return Engine.open(
            args.model,
            args.memory,
            threads=args.threads,
            context=args.context,
            precision=args.precision,
            step_rows=args.step_rows,
            **more,
            catalog=args.catalog,
            offline=args.offline,
            progress=LateProgress(sys.stderr),
            on_load=on_load(status),
        )
    finally:
        status.close()


def on_load(status: StatusLine) -> Callable[[int, int], None]:
    """Return what shows a load on `status`."""
    return lambda done, total: status.show(f"loading {100 * done // max(total, 1)} %")
