"""What `tonnage run` and `tonnage chat` take."""

from argparse import ArgumentParser
from pathlib import Path

from tonnage.cli.parsers.common import add_engine, add_model, add_named, add_sampling


def add_run(parser: ArgumentParser) -> None:
    """Add the options of `tonnage run`."""
    add = parser.add_argument
    add_model(parser)
    add("prompt", metavar="PROMPT", nargs="?", help="what to answer; - reads it from stdin")
    add_named(parser, "prompt", "--prompt", "-p")
    add(
        "--file",
        "-f",
        type=Path,
        metavar="FILE",
        help="read the prompt from a file; it stands behind PROMPT where both are given",
    )
    _add_conversation(parser)
    add("--json", action="store_true", help="print one JSON object, nothing else")
    add("--ledger", action="store_true", help="show what each item took, after the answer")
    add(
        "--plan",
        type=Path,
        metavar="FILE",
        help="load by the plan that `tonnage plan -o FILE` wrote; it names MODEL where that is "
        "left out, and the prompt then comes from stdin",
    )
    add_engine(parser, ["concurrency"])
    add_sampling(parser)


def add_chat(parser: ArgumentParser) -> None:
    """Add the options of `tonnage chat`."""
    add = parser.add_argument
    add_model(parser)
    _add_conversation(parser)
    add("--plan", type=Path, metavar="FILE", help="load by what `tonnage plan -o FILE` wrote")
    add_engine(parser, ["concurrency"])
    add_sampling(parser)
    parser.set_defaults(prompt="", file=None, json=False, ledger=False)


def _add_conversation(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("--system", "-sys", "--system-prompt", metavar="TEXT", help="system message")
    add(
        "--raw", action="store_true", help="give the prompt to the model as it is, no chat template"
    )
    add("--no-history", action="store_true", help="in a chat: keep nothing of what is typed")
