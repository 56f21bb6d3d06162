"""What can be written behind `tonnage`: commands, options, help."""

import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from tonnage.cli.parsers.common import add_options
from tonnage.engine.options import ModelOptions


def parse(argv: Sequence[str]) -> Namespace:
    """Return the parsed command line; its `command` is one of COMMANDS.

    Prints help, version or a mistake and raises SystemExit where there is nothing to run.
    """
    name = argv[0] if argv else ""
    if name not in COMMANDS:
        _leave(argv)
    parser = parser_of(name)
    try:
        args, rest = parser.parse_known_args(argv[1:])
    except _MistakeError as mistake:
        _tell_foreign(name, argv[1:])
        print(f"tonnage: `{parser.prog}`: {mistake}.", file=sys.stderr)
        raise SystemExit(2) from None
    rest = _taken_late(args, _by_name(args, rest))
    if rest:
        from tonnage.cli.mistakes import not_understood

        _tell_foreign(name, rest)
        print(f"tonnage: {not_understood(parser, rest[0])}", file=sys.stderr)
        raise SystemExit(2)
    return args


class _MistakeError(Exception):
    """What argparse finds wrong."""


class _Parser(ArgumentParser):
    """Raises what is wrong, where argparse prints all options and ends the process."""

    def error(self, message: str) -> NoReturn:
        raise _MistakeError(message.rstrip("."))


def _leave(argv: Sequence[str]) -> NoReturn:
    """Print help, the version, or that there is no such command; raise SystemExit."""
    from tonnage.cli.mistakes import overview, unknown_command

    commands = overview({name: summary for name, (summary, _) in _COMMANDS.items()})
    if not argv:
        commands.print_help()
        raise SystemExit(0)
    if argv[0].startswith("-"):
        commands.parse_args(argv)
    print(f"tonnage: {unknown_command(argv[0], COMMANDS)}", file=sys.stderr)
    raise SystemExit(2)


def _tell_foreign(name: str, words: Sequence[str]) -> None:
    """Say what to do instead of an option of another program, if there is one; SystemExit."""
    from tonnage.cli.mistakes import foreign

    sentence = foreign(name, words)
    if sentence is not None:
        print(f"tonnage: {sentence}", file=sys.stderr)
        raise SystemExit(2)


def parser_of(name: str) -> ArgumentParser:
    """Return what one of COMMANDS takes."""
    summary, adder = _COMMANDS[name]
    parser = _Parser(
        f"tonnage {name}",
        description=summary[0].upper() + summary[1:] + ".",
        epilog=_notes(name) if name in _WITH_NOTES else None,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(command=name)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    add_options(parser.add_argument, ModelOptions, ["offline"])
    module, function = adder.split(".")
    getattr(import_module(f"tonnage.cli.parsers.{module}"), function)(parser)
    return parser


def _notes(name: str) -> str:
    from tonnage.cli.render.notes import NOTES

    return NOTES[name]


def _by_name(args: Namespace, rest: list[str]) -> list[str]:
    """Put what -m and -p name where the same words without a name stand; return what is left.

    Words that stood there move on: behind -m the first one is the prompt.
    """
    names = [name for name in ("model", "prompt") if hasattr(args, name)]
    stated = {name: getattr(args, f"{name}_by_name", None) for name in names}
    if not any(value is not None for value in stated.values()):
        return rest
    words = [getattr(args, name) for name in names if getattr(args, name) is not None]
    for name in names:
        value = stated[name]
        setattr(args, name, value if value is not None else words.pop(0) if words else None)
    return words + rest


def _taken_late(args: Namespace, rest: list[str]) -> list[str]:
    """Give words behind options to model, prompt or texts that lack them; return what is left.

    argparse takes `MODEL --seed 1 PROMPT` for one without a prompt.
    """
    for name in ("model", "prompt"):
        is_word = bool(rest) and (rest[0] == "-" or not rest[0].startswith("-"))
        if is_word and getattr(args, name, "") is None:
            setattr(args, name, rest[0])
            rest = rest[1:]
    if getattr(args, "texts", None) == [] and not any(word.startswith("-") for word in rest):
        args.texts, rest = rest, []
    return rest


# What a command does, and what adds its options: `module.function` of tonnage.cli.parsers.
_COMMANDS = {
    "run": ("answer a prompt, or chat when there is none", "run.add_run"),
    "chat": ("talk with a model, as `tonnage run` without a prompt does", "run.add_chat"),
    "serve": ("answer over HTTP, as OpenAI's and Anthropic's servers do", "serve.add_serve"),
    "ps": ("show the servers that run", "serve.add_ps"),
    "stop": ("end a server that runs", "serve.add_stop"),
    "plan": ("say what a model takes, before anything is loaded", "measures.add_plan"),
    "batch": ("answer a file of requests, many at once", "texts.add_batch"),
    "embed": ("print the vectors of texts, or of the lines of stdin", "texts.add_embed"),
    "pull": ("fetch a model", "models.add_pull"),
    "list": ("show the models that can be pulled, and those that are here", "models.add_list"),
    "show": ("say what a model is: family, licence, formats", "models.add_show"),
    "compare": ("show several models beside each other", "models.add_compare"),
    "rm": ("delete pulled models", "models.add_rm"),
    "doctor": ("show what this machine has, and how fast it is at best", "measures.add_doctor"),
    "bench": ("measure a model's speed beside the machine's", "measures.add_bench"),
    "audit": ("measure a model's quality, alone or beside a reference", "measures.add_audit"),
    "calibrate": ("measure what a text asks of a model's columns", "packing.add_calibrate"),
    "pack": ("write a smaller file of a model", "packing.add_pack"),
}
COMMANDS = tuple(_COMMANDS)
_WITH_NOTES = ("audit", "batch", "bench", "plan")  # below their help
