"""Opening the engine that the options of a command ask for."""

import sys
from argparse import Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING

from tonnage.cli.terminal import LateProgress, StatusLine
from tonnage.core.units import parse_bytes

if TYPE_CHECKING:
    from tonnage.engine import Engine


def open_engine(args: Namespace, concurrency: int = 1) -> "Engine":
    """Return the engine for the options of `tonnage run`, for so many sequences at once.

    A load that takes long shows itself on a terminal.
    """
    from tonnage.engine import Engine
    from tonnage.serving.build import ServingOptions
    from tonnage.serving.disk import DiskOptions

    disk = None if args.page_cache is None else DiskOptions(parse_bytes(args.page_cache))
    status = StatusLine(sys.stderr)
    try:
        engine = Engine.open(
            args.model,
            args.memory,
            threads=args.threads,
            context=args.context,
            precision=args.precision,
            kv_format=args.kv,
            quality=args.quality,
            concurrency=concurrency,
            step_rows=args.step_rows,
            serving=ServingOptions(disk=disk),
            catalog=args.catalog,
            offline=args.offline,
            progress=LateProgress(sys.stderr),
            on_load=on_load(status),
        )
    finally:
        status.close()
    tell_choice(engine)
    return engine


def tell_choice(engine: "Engine") -> None:
    """Print a line on stderr when something usual that was not stated had to give way."""
    from tonnage.cli.choice_words import given_up

    words = given_up(engine.choice)
    if words:
        print(f"tonnage: {words}", file=sys.stderr)


def on_load(status: StatusLine) -> Callable[[int, int], None]:
    """Return what shows a load on `status`."""
    return lambda done, total: status.show(f"loading {100 * done // max(total, 1)} %")
