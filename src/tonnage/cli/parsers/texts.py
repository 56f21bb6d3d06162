"""What the commands take that go over many texts."""

from argparse import ArgumentParser
from pathlib import Path

from tonnage.cli.parsers.common import MODEL_HELP, add_engine, add_sampling


def add_batch(parser: ArgumentParser) -> None:
    """Add the options of `tonnage batch`."""
    add = parser.add_argument
    add("input", metavar="INPUT", type=Path, help="requests, one JSON object per line")
    add("output", metavar="OUTPUT", type=Path, help="results; made, or gone on with")
    add("--model", "-m", metavar="MODEL", help=f"{MODEL_HELP}; the catalog's default if left out")
    add("--raw", action="store_true", help="no chat template for plain prompts")
    add_engine(parser, concurrency=8)
    add_sampling(parser)


def add_embed(parser: ArgumentParser) -> None:
    """Add the options of `tonnage embed`."""
    add = parser.add_argument
    add("model", metavar="MODEL", help=MODEL_HELP)
    add("texts", metavar="TEXT", nargs="*", help="a text; without any, each line of stdin is one")
    add("--json", action="store_true", help="print one JSON object per text, nothing else")
    add("--pooling", metavar="NAME", help="mean or last (as the model was trained, else mean)")
    add("--dimensions", type=int, metavar="N", help="the first N elements (all)")
    add_engine(parser, ["prefix_cache", "speculate"], concurrency=8)
