"""What can be written behind `tonnage`: commands, options, help."""

import sys
from argparse import SUPPRESS, ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tonnage.core.options import Described, as_flag, described
from tonnage.core.sampling import SamplingOptions
from tonnage.core.version import VERSION
from tonnage.engine.options import EngineOptions, MemoryOptions, ModelOptions

_MODEL_HELP = (
    "a name of the catalog (see `tonnage list`), a GGUF file, a folder of Hugging Face, or "
    "hf:owner/name[/file]"
)


def parse(argv: Sequence[str]) -> Namespace:
    """Return the parsed command line; its `command` is one of COMMANDS.

    Prints help, version or a mistake and raises SystemExit where there is nothing to run.
    """
    if not argv:
        _overview().print_help()
        raise SystemExit(0)
    if argv[0].startswith("-"):
        _overview().parse_args(argv)
    if argv[0] not in COMMANDS:
        from tonnage.core.nearest import did_you_mean

        hint = did_you_mean(argv[0], COMMANDS)
        print(f"tonnage: There is no command {argv[0][:100]!r}{hint}", file=sys.stderr)
        raise SystemExit(2)
    parser = parser_of(argv[0])
    args, rest = parser.parse_known_args(argv[1:])
    rest = _taken_late(args, rest)
    if rest:
        print(f"tonnage: {_not_understood(parser, rest[0])}", file=sys.stderr)
        raise SystemExit(2)
    return args


def parser_of(name: str) -> ArgumentParser:
    """Return what one of COMMANDS takes."""
    command = _COMMANDS[name]
    parser = ArgumentParser(
        f"tonnage {name}",
        description=command.summary[0].upper() + command.summary[1:] + ".",
        epilog=_notes(name) if command.has_notes else None,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(command=name)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    _add_options(parser.add_argument, ModelOptions, ["offline"])
    command.add(parser)
    return parser


def _notes(name: str) -> str:
    from tonnage.cli.render.notes import NOTES

    return NOTES[name]


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


def _not_understood(parser: ArgumentParser, word: str) -> str:
    if not word.startswith("-"):
        return f"`{parser.prog}` has no place for {word[:100]!r}; see its --help."
    from tonnage.core.nearest import did_you_mean

    known = parser.format_usage().replace("[", " ").replace("]", " ").split()
    hint = did_you_mean(word.partition("=")[0], [name for name in known if name.startswith("--")])
    return f"`{parser.prog}` has no option {word[:100]}{hint}"


def _overview() -> ArgumentParser:
    """Return what names the commands, without what each takes."""
    parser = ArgumentParser(
        "tonnage",
        description="Large language models at the speed of the memory.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"tonnage {VERSION}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in _COMMANDS.items():
        commands.add_parser(name, help=command.summary)
    return parser


def _add_options(
    add: Callable[..., object], group: type, without: Sequence[str] = (), **defaults: object
) -> None:
    """Add the options of a group, for the command line only those that have a flag there.

    without: names of those that the command does not have. defaults: of this command alone.
    """
    for one in described(group):
        if one.flag is not None and one.name not in without:
            own = one.with_default(defaults[one.name]) if one.name in defaults else one
            _add_option(add, own, defaults.get(one.name))


def _add_option(add: Callable[..., object], one: Described, default: object) -> None:
    """Add an option, and its former flags, which no help shows."""
    how: dict[str, Any] = {"dest": one.name, "default": default}
    if one.kind is bool:
        how |= {"action": "store_true", "default": False}
    else:
        how |= {"type": one.kind, "metavar": one.option.unit or None}
    if one.choices:
        how["choices"] = one.choices
    if one.option.alone:
        how |= {"nargs": "?", "const": one.option.alone}
    if one.repeated:
        how["action"] = "append"
    add(one.flag, help=one.help.replace("%", "%%"), **how)
    for former in one.option.former:
        add(as_flag(former), help=SUPPRESS, **{**how, "default": SUPPRESS})


def _add_engine(parser: ArgumentParser, without: Sequence[str] = (), **defaults: object) -> None:
    """Add what every command that plans or opens a model takes."""
    _add_options(parser.add_argument, MemoryOptions)
    _add_options(parser.add_argument, EngineOptions, ("catalog", *without), **defaults)


def _add_model(parser: ArgumentParser) -> None:
    parser.add_argument(
        "model",
        metavar="MODEL",
        nargs="?",
        help=f"{_MODEL_HELP}; the catalog's default if left out",
    )


def _add_plan(parser: ArgumentParser) -> None:
    add = parser.add_argument
    _add_model(parser)
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
    _add_engine(parser, ["prefix_cache"])


def _add_run(parser: ArgumentParser) -> None:
    add = parser.add_argument
    _add_model(parser)
    add("prompt", metavar="PROMPT", nargs="?", help="what to answer; - reads it from stdin")
    add(
        "-f",
        "--file",
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
    _add_engine(parser, ["concurrency"])
    _add_sampling(parser)


def _add_chat(parser: ArgumentParser) -> None:
    add = parser.add_argument
    _add_model(parser)
    _add_conversation(parser)
    add("--plan", type=Path, metavar="FILE", help="load by what `tonnage plan -o FILE` wrote")
    _add_engine(parser, ["concurrency"])
    _add_sampling(parser)
    parser.set_defaults(prompt="", file=None, json=False, ledger=False)


def _add_conversation(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("--system", metavar="TEXT", help="system message")
    add(
        "--raw", action="store_true", help="give the prompt to the model as it is, no chat template"
    )
    add("--no-history", action="store_true", help="in a chat: keep nothing of what is typed")


def _add_serve(parser: ArgumentParser) -> None:
    from tonnage.server.options import DEFAULT_CONCURRENCY, LogOptions, ServeOptions

    add = parser.add_argument
    _add_model(parser)
    add(
        "--model",
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
    _add_options(add, MemoryOptions)
    _add_options(add, LogOptions)
    _add_options(add, ServeOptions, ["catalog"], concurrency=DEFAULT_CONCURRENCY)
    # What is stated is distinguished from what is usual: a file of options may state it too.
    parser.set_defaults(concurrency=None)


def _add_batch(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("input", metavar="INPUT", type=Path, help="requests, one JSON object per line")
    add("output", metavar="OUTPUT", type=Path, help="results; made, or gone on with")
    add("--model", metavar="MODEL", help=f"{_MODEL_HELP}; the catalog's default if left out")
    add("--raw", action="store_true", help="no chat template for plain prompts")
    _add_engine(parser, concurrency=8)
    _add_sampling(parser)


def _add_embed(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("model", metavar="MODEL", help=_MODEL_HELP)
    add("texts", metavar="TEXT", nargs="*", help="a text; without any, each line of stdin is one")
    add("--json", action="store_true", help="print one JSON object per text, nothing else")
    add("--pooling", metavar="NAME", help="mean or last (as the model was trained, else mean)")
    add("--dimensions", type=int, metavar="N", help="the first N elements (all)")
    _add_engine(parser, ["prefix_cache"], concurrency=8)


def _add_sampling(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("how tokens are sampled")
    _add_options(group.add_argument, SamplingOptions)


def _add_bench(parser: ArgumentParser) -> None:
    add = parser.add_argument
    _add_model(parser)
    add("--json", action="store_true", help="print one JSON object, nothing else")
    add("--rows", metavar="N,N", default="1,2,4,8,16,32", help="sequences to decode at once")
    add("--prefill", metavar="N,N", default="128,512,2048", help="lengths of prompts")
    add("--quick", action="store_true", help="fractions of a second each: a first impression")
    _add_engine(parser, ["context", "max_batch_tokens", "concurrency", "prefix_cache"])


def _add_audit(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("model", metavar="MODEL", help=_MODEL_HELP)
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
        "--memory",
        metavar="BYTES",
        help="audit what `tonnage plan` chooses for so many bytes (the file as it is)",
    )
    _add_options(add, EngineOptions, ["catalog", "prefix_cache"])


def _add_pull(parser: ArgumentParser) -> None:
    parser.add_argument(
        "model", metavar="NAME", help="a name of the catalog, or hf:owner/name[/file]"
    )


def _add_list(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON array")


def _add_rm(parser: ArgumentParser) -> None:
    parser.add_argument("models", metavar="NAME", nargs="+", help="a pulled model")


def _add_doctor(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("--json", action="store_true", help="print one JSON object")
    add("--measure", action="store_true", help="measure what forecasts need (2 s), and keep it")
    add("--disk", metavar="FILE", help="file to measure disk reads with")


class _Command(NamedTuple):
    """What a command does, the options that it adds, and whether notes stand below its help."""

    summary: str
    add: Callable[[ArgumentParser], None]
    has_notes: bool = False


_COMMANDS = {
    "run": _Command("answer a prompt, or chat when there is none", _add_run),
    "chat": _Command("talk with a model, as `tonnage run` without a prompt does", _add_chat),
    "serve": _Command("answer over HTTP, as OpenAI's and Anthropic's servers do", _add_serve),
    "plan": _Command(
        "say what a model takes, before anything is loaded", _add_plan, has_notes=True
    ),
    "batch": _Command("answer a file of requests, many at once", _add_batch, has_notes=True),
    "embed": _Command("print the vectors of texts, or of the lines of stdin", _add_embed),
    "pull": _Command("fetch a model", _add_pull),
    "list": _Command("show the models that can be pulled, and those that are here", _add_list),
    "rm": _Command("delete pulled models", _add_rm),
    "doctor": _Command("show what this machine has, and how fast it is at best", _add_doctor),
    "bench": _Command("measure a model's speed beside the machine's", _add_bench, has_notes=True),
    "audit": _Command(
        "measure a model's quality, alone or beside a reference", _add_audit, has_notes=True
    ),
}
COMMANDS = tuple(_COMMANDS)
