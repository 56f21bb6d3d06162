"""What the commands take that make files smaller."""

from argparse import ArgumentParser
from pathlib import Path

from tonnage.cli.parsers.common import MODEL_HELP, add_options, size
from tonnage.engine.options import ModelOptions


def add_calibrate(parser: ArgumentParser) -> None:
    """Add the options of `tonnage calibrate`."""
    add = parser.add_argument
    add("model", metavar="MODEL", help=MODEL_HELP)
    add("--text", type=Path, metavar="FILE", required=True, help="UTF-8 text that is like its use")
    add("--chunks", type=int, metavar="N", default=20, help="at most so many of 512 tokens (20)")
    _add_common(parser)


def add_pack(parser: ArgumentParser) -> None:
    """Add the options of `tonnage pack`."""
    add = parser.add_argument
    add("model", metavar="MODEL", help=MODEL_HELP)
    add("--target", type=size, metavar="BYTES", help="the most bytes of the file, such as 420MiB")
    add(
        "--max-kld",
        type=float,
        metavar="NATS",
        help="the most mean divergence by estimate, in place of --target",
    )
    add(
        "--calibration",
        type=Path,
        metavar="FILE",
        help="what `tonnage calibrate` wrote, or an importance matrix of llama.cpp",
    )
    add("--json", action="store_true", help="print one JSON object, nothing else")
    _add_common(parser)


def _add_common(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("-o", "--output", type=Path, metavar="FILE", required=True, help="the file to write")
    add("--threads", type=int, metavar="N", help="threads to compute with (all cores)")
    add_options(add, ModelOptions, ["catalog"])
