"""What the commands take that fetch, show and delete models."""

from argparse import ArgumentParser
from pathlib import Path

from tonnage.cli.parsers.common import MODEL_HELP, add_model, add_options, size
from tonnage.engine.options import MemoryOptions, ModelOptions, PlanOptions


def add_pull(parser: ArgumentParser) -> None:
    """Add the options of `tonnage pull`."""
    parser.add_argument("model", metavar="NAME", help=MODEL_HELP)


def add_list(parser: ArgumentParser) -> None:
    """Add the options of `tonnage list`."""
    add = parser.add_argument
    add("--json", action="store_true", help="print one JSON array")
    add(
        "--memory",
        type=size,
        metavar="BYTES",
        help="say of those that are here whether they fit, at what quality, and how fast",
    )


def add_rm(parser: ArgumentParser) -> None:
    """Add the options of `tonnage rm`."""
    parser.add_argument("models", metavar="NAME", nargs="+", help="a pulled model")


def add_show(parser: ArgumentParser) -> None:
    """Add the options of `tonnage show`."""
    add_model(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    add_options(parser.add_argument, ModelOptions, ["catalog"])


def add_compare(parser: ArgumentParser) -> None:
    """Add the options of `tonnage compare`."""
    add = parser.add_argument
    add("models", metavar="MODEL", nargs="+", help=MODEL_HELP)
    add("--json", action="store_true", help="print one JSON object, nothing else")
    add("--svg", type=Path, metavar="FILE", help="write the chart as a picture")
    add_options(add, MemoryOptions)
    add_options(add, PlanOptions)
    add_options(add, ModelOptions, ["catalog"])
