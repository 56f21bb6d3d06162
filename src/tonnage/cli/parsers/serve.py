"""What `tonnage serve` takes."""

from argparse import ArgumentParser
from pathlib import Path

from tonnage.cli.parsers.common import MODEL_HELP, add_options
from tonnage.engine.options import MemoryOptions


def add_serve(parser: ArgumentParser) -> None:
    """Add the options of `tonnage serve`."""
    from tonnage.server.options import DEFAULT_CONCURRENCY, LogOptions, ServeOptions

    add = parser.add_argument
    add("model", metavar="MODEL", nargs="?", help=f"{MODEL_HELP}; the catalog's default without")
    add(
        "--model",
        "-m",
        dest="models",
        metavar="MODEL",
        action="append",
        default=[],
        help="one more model; may be repeated",
    )
    add(
        "--config",
        type=Path,
        metavar="FILE",
        help="TOML of these options, `_` for `-`; what is stated here goes before it",
    )
    add("--plan", action="store_true", help="print what these options would take, and end")
    add("--json", action="store_true", help="with --plan: print one JSON object, nothing else")
    add_options(add, MemoryOptions)
    add_options(add, LogOptions)
    add_options(add, ServeOptions, ["catalog"], concurrency=DEFAULT_CONCURRENCY)
    # What is stated is distinguished from what is usual: a file of options may state it too.
    parser.set_defaults(concurrency=None)


def add_ps(parser: ArgumentParser) -> None:
    """Add the options of `tonnage ps`."""
    parser.add_argument("--json", action="store_true", help="print one JSON array")


def add_stop(parser: ArgumentParser) -> None:
    """Add the options of `tonnage stop`."""
    add = parser.add_argument
    add(
        "server",
        metavar="SERVER",
        nargs="?",
        help="its process id, port or address (the only one that runs)",
    )
    add("--wait", type=int, metavar="S", default=60, help="seconds to wait for its end (60)")
    add("--json", action="store_true", help="print one JSON object, nothing else")
