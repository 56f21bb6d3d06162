"""What the commands take that fetch, show and delete models."""

from argparse import ArgumentParser


def add_pull(parser: ArgumentParser) -> None:
    """Add the options of `tonnage pull`."""
    parser.add_argument(
        "model", metavar="NAME", help="a name of the catalog, or hf:owner/name[/file]"
    )


def add_list(parser: ArgumentParser) -> None:
    """Add the options of `tonnage list`."""
    parser.add_argument("--json", action="store_true", help="print one JSON array")


def add_rm(parser: ArgumentParser) -> None:
    """Add the options of `tonnage rm`."""
    parser.add_argument("models", metavar="NAME", nargs="+", help="a pulled model")
