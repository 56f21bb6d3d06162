"""What the commands take that plan and measure."""

from argparse import ArgumentParser
from pathlib import Path

from tonnage.cli.parsers.common import MODEL_HELP, add_engine, add_model, add_options
from tonnage.engine.options import EngineOptions


def add_plan(parser: ArgumentParser) -> None:
    """Add the options of `tonnage plan`."""
    add = parser.add_argument
    add_model(parser)
    add("--json", action="store_true", help="print one JSON object, nothing else")
    add("--explain", action="store_true", help="draw the items as a chart")
    add("--svg", type=Path, metavar="FILE", help="write a picture of memory from start to answer")
    add(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="write the plan as a file, for `tonnage run --plan` and `tonnage serve --plan-file`",
    )
    add(
        "--machine",
        metavar="NAME|FILE",
        action="append",
        default=[],
        help="plan for hardware that is not here: a name of --machines, or a TOML file of your "
        "own; may be repeated",
    )
    add("--machines", action="store_true", help="show the machines that are known by name")
    add_engine(parser, ["prefix_cache"])


def add_bench(parser: ArgumentParser) -> None:
    """Add the options of `tonnage bench`."""
    add = parser.add_argument
    add_model(parser)
    add("--json", action="store_true", help="print one JSON object, nothing else")
    add("--rows", metavar="N,N", default="1,2,4,8,16,32", help="sequences to decode at once")
    add("--prefill", metavar="N,N", default="128,512,2048", help="lengths of prompts")
    add("--quick", action="store_true", help="fractions of a second each: a first impression")
    add_engine(parser, ["context", "max_batch_tokens", "concurrency", "prefix_cache", "speculate"])


def add_audit(parser: ArgumentParser) -> None:
    """Add the options of `tonnage audit`."""
    add = parser.add_argument
    add("model", metavar="MODEL", help=MODEL_HELP)
    add("--reference", metavar="REF", help="a model of the same vocabulary to compare with")
    add(
        "--reference-precision",
        metavar="BITS",
        help="8bit or 4bit for the reference, which is MODEL itself without --reference",
    )
    add(
        "--reference-kv",
        metavar="FORMAT",
        help="f16 or int8 pages for the reference, which is MODEL itself without --reference",
    )
    add("--text", type=Path, metavar="FILE", help="UTF-8 text (the reference of this Python)")
    add("--chunks", type=int, metavar="N", default=20, help="at most so many of 512 tokens (20)")
    add("--fresh", action="store_true", help="measure again what was measured before")
    add("--json", action="store_true", help="print one JSON object, nothing else")
    add(
        "--gate",
        metavar="FIGURE<=N",
        action="append",
        default=[],
        help="end with 4 unless it holds, such as mean_kld<=0.01 or top1_agreement>=0.95; may be "
        "repeated",
    )
    add(
        "--memory",
        metavar="BYTES",
        help="audit what `tonnage plan` chooses for so many bytes (the file as it is)",
    )
    add_options(add, EngineOptions, ["catalog", "prefix_cache"])


def add_doctor(parser: ArgumentParser) -> None:
    """Add the options of `tonnage doctor`."""
    add = parser.add_argument
    add("--json", action="store_true", help="print one JSON object")
    add("--measure", action="store_true", help="measure what forecasts need (2 s), and keep it")
    add("--disk", metavar="FILE", help="file to measure disk reads with")
