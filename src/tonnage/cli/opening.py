"""Opening the engine that the options of a command ask for."""

import sys
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from tonnage.cli.render.terminal import PullProgress, StatusLine
from tonnage.core.units import parse_bytes

if TYPE_CHECKING:
    from tonnage.engine.build import ServingOptions
    from tonnage.engine.engine import Engine
    from tonnage.engine.opening import OpenOptions


def open_engine(
    args: Namespace, concurrency: int = 1, serving: "ServingOptions | None" = None
) -> "Engine":
    """Return the engine for the options of `tonnage run`, for so many sequences at once.

    serving: more about how they are served; where pages go on disk is in `args`. A load that takes
    long shows itself on a terminal.
    """
    from tonnage.engine.engine import Engine

    options = open_options(args, concurrency, serving)
    status = StatusLine(sys.stderr)
    try:
        engine = Engine.open(
            args.model,
            args.memory,
            threads=options.threads,
            context=options.context,
            precision=options.precision,
            kv_format=options.kv_format,
            quality=options.quality,
            concurrency=options.concurrency,
            max_batch_tokens=options.max_batch_tokens,
            serving=options.serving,
            catalog=args.catalog,
            offline=args.offline,
            progress=PullProgress(sys.stderr),
            on_load=on_load(status),
        )
    finally:
        status.close()
    tell_choice(engine)
    return engine


def open_options(
    args: Namespace, concurrency: int = 1, serving: "ServingOptions | None" = None
) -> "OpenOptions":
    """Return how the options of a command ask for a model to be opened."""
    from tonnage.engine.build import ServingOptions
    from tonnage.engine.disk_tier import DiskOptions
    from tonnage.engine.opening import OpenOptions

    disk = None if args.page_cache is None else DiskOptions(parse_bytes(args.page_cache))
    return OpenOptions(
        threads=args.threads,
        context=args.context,
        precision=args.precision,
        kv_format=args.kv,
        quality=args.quality,
        concurrency=concurrency,
        max_batch_tokens=args.max_batch_tokens,
        serving=replace(serving or ServingOptions(), disk=disk),
    )


def tell_choice(engine: "Engine") -> None:
    """Print a line on stderr when something usual that was not stated had to give way."""
    from tonnage.cli.render.choice_words import given_up

    words = given_up(engine.choice)
    if words:
        print(f"tonnage: {words}", file=sys.stderr)


def on_load(status: StatusLine) -> Callable[[int, int], None]:
    """Return what shows a load on `status`."""
    return lambda done, total: status.show(f"loading {100 * done // max(total, 1)} %")
