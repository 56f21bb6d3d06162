"""What can be written behind `tonnage`: commands, options, help."""

import sys
from argparse import SUPPRESS, ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from tonnage import __version__
from tonnage.cli.render.notes import AUDIT_NOTES, BATCH_NOTES, BENCH_NOTES, PLAN_NOTES
from tonnage.core.quality import DEFAULT_QUALITY, QUALITY_BOUNDS

COMMANDS = (
    "run", "serve", "plan", "batch", "embed", "pull", "list", "rm", "doctor", "bench", "audit",
)  # fmt: skip

LOG_LEVELS = ("debug", "info", "warning", "error")
_MODEL_HELP = (
    "a name of the catalog (see `tonnage list`), a GGUF file, a folder of Hugging Face, or "
    "hf:owner/name[/file]"
)


def parse(argv: Sequence[str]) -> Namespace:
    """Return the parsed command line; its `command` is one of COMMANDS.

    Prints help, version or a mistake and raises SystemExit where there is nothing to run.
    """
    parser, commands = _parser()
    if not argv:
        parser.print_help()
        raise SystemExit(0)
    if not argv[0].startswith("-") and argv[0] not in COMMANDS:
        from tonnage.core.nearest import did_you_mean

        hint = did_you_mean(argv[0], COMMANDS)
        print(f"tonnage: There is no command {argv[0][:100]!r}{hint}", file=sys.stderr)
        raise SystemExit(2)
    args, rest = parser.parse_known_args(argv)
    rest = _taken_late(args, rest)
    if rest:
        print(f"tonnage: {_not_understood(args.command, commands, rest[0])}", file=sys.stderr)
        raise SystemExit(2)
    return args


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


def _not_understood(command: str, commands: Mapping[str, ArgumentParser], word: str) -> str:
    if not word.startswith("-"):
        return f"`tonnage {command}` has no place for {word[:100]!r}; see its --help."
    from tonnage.core.nearest import did_you_mean

    known = commands[command].format_usage().replace("[", " ").replace("]", " ").split()
    hint = did_you_mean(word.partition("=")[0], [name for name in known if name.startswith("--")])
    return f"`tonnage {command}` has no option {word[:100]}{hint}"


def _parser() -> tuple[ArgumentParser, Mapping[str, ArgumentParser]]:
    """Return the whole command line, and each command's part of it."""
    parser = ArgumentParser(
        "tonnage",
        description="Large language models at the speed of the memory.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"tonnage {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    common = ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    common.add_argument("--catalog", type=Path, metavar="FILE", help="one more catalog of models")

    def command(name: str, summary: str, notes: str | None = None) -> ArgumentParser:
        return commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            epilog=notes,
            parents=[common],
            formatter_class=RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    _add_run(command("run", "answer a prompt, or chat when there is none"))
    _add_serve(command("serve", "answer over HTTP, as OpenAI's and Anthropic's servers do"))
    _add_plan(command("plan", "say what a model takes, before anything is loaded", PLAN_NOTES))
    _add_batch(command("batch", "answer a file of requests, many at once", BATCH_NOTES))
    _add_embed(command("embed", "print the vectors of texts, or of the lines of stdin"))
    _add_models(
        command("pull", "fetch a model"),
        command("list", "show the models that can be pulled, and those that are here"),
        command("rm", "delete pulled models"),
    )
    doctor = command("doctor", "show what this machine has, and how fast it is at best")
    doctor.add_argument("--json", action="store_true", help="print one JSON object")
    doctor.add_argument(
        "--measure", action="store_true", help="measure what forecasts need (2 s), and keep it"
    )
    doctor.add_argument("--disk", metavar="FILE", help="file to measure disk reads with")
    _add_bench(command("bench", "measure a model's speed beside the machine's", BENCH_NOTES))
    _add_audit(
        command("audit", "measure a model's quality, alone or beside a reference", AUDIT_NOTES)
    )
    return parser, commands.choices


def _add_models(pull: ArgumentParser, listing: ArgumentParser, rm: ArgumentParser) -> None:
    pull.add_argument(
        "model", metavar="NAME", help="a name of the catalog, or hf:owner/name[/file]"
    )
    listing.add_argument("--json", action="store_true", help="print one JSON array")
    rm.add_argument("models", metavar="NAME", nargs="+", help="a pulled model")


_MEMORY_HELP = "for the whole process, such as 700MiB (what it can get)"


def _add_engine(parser: ArgumentParser, memory_help: str = _MEMORY_HELP) -> None:
    """Add what every command that plans or opens a model takes."""
    add = parser.add_argument
    add("--memory", metavar="BYTES", help=memory_help)
    add("--threads", type=int, metavar="N", help="threads (as many as make it faster)")
    add("--precision", metavar="BITS", help="8bit or 4bit: quantize float weights while loading")
    add("--kv", metavar="FORMAT", help="f16 or int8: keys and values (int8 where it loses little)")
    add("--offline", action="store_true", help="fetch nothing")


def _add_choice(parser: ArgumentParser) -> None:
    """Add what bounds the planner's choice."""
    names = ", ".join(QUALITY_BOUNDS)
    parser.add_argument(
        "--quality",
        metavar="NAME|KLD",
        help=f"how far weights may lie from the file: {names}, or a mean KL divergence in nats "
        f"({DEFAULT_QUALITY})",
    )


def _add_page_cache(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--page-cache",
        metavar="BYTES",
        help="keep computed prompts on disk, at most so much of all models, such as 4GiB (nothing)",
    )


def _add_model(parser: ArgumentParser) -> None:
    parser.add_argument(
        "model",
        metavar="MODEL",
        nargs="?",
        help=f"{_MODEL_HELP}; the catalog's default if left out",
    )


def _add_sizes(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("--context", type=int, metavar="N", help="positions to reserve (4096 where they fit)")
    add(
        "--max-batch-tokens",
        type=int,
        metavar="N",
        help="tokens of a prompt computed at once (512)",
    )
    add("--step-rows", type=int, dest="max_batch_tokens", help=SUPPRESS)


def _add_plan(parser: ArgumentParser) -> None:
    add = parser.add_argument
    _add_model(parser)
    _add_sizes(parser)
    add("--concurrency", type=int, metavar="N", default=1, help="sequences at once (1)")
    add("--json", action="store_true", help="print one JSON object, nothing else")
    add("--explain", action="store_true", help="draw the items as a chart")
    add("--svg", type=Path, metavar="FILE", help="write a picture of memory from start to answer")
    add(
        "--machine",
        metavar="NAME|FILE",
        action="append",
        default=[],
        help="plan for hardware that is not here: a name of --machines, or a TOML file of your "
        "own; may be repeated",
    )
    add("--machines", action="store_true", help="show the machines that are known by name")
    _add_choice(parser)
    _add_engine(parser)


def _add_run(parser: ArgumentParser) -> None:
    add = parser.add_argument
    _add_model(parser)
    add("prompt", metavar="PROMPT", nargs="?", help="what to answer; - reads it from stdin")
    add("--system", metavar="TEXT", help="system message")
    add(
        "--raw", action="store_true", help="give the prompt to the model as it is, no chat template"
    )
    add("--json", action="store_true", help="print one JSON object, nothing else")
    add("--ledger", action="store_true", help="show what each item took, after the answer")
    _add_sizes(parser)
    _add_choice(parser)
    _add_page_cache(parser)
    _add_engine(parser)
    _add_sampling(parser.add_argument_group("how the answer is drawn").add_argument)


def _add_serve(parser: ArgumentParser) -> None:
    add = parser.add_argument
    _add_model(parser)
    add("--host", default="127.0.0.1", help="address; others than 127.0.0.1 need keys")
    add("--port", type=int, metavar="N", default=8000, help="port, 0 for any free one (8000)")
    add("--keys", type=Path, metavar="FILE", help="TOML of API keys and quotas; docs/serving.md")
    many = partial(add, action="append", default=[])
    many("--model", dest="models", metavar="MODEL", help="one more model; may be repeated")
    many("--pin", metavar="NAME", help="a model that always stays in memory")
    many("--alias", metavar="NAME[=MODEL]", help="one more name of a model")
    add("--forms", action="store_true", help="let answers be bound to JSON schemas and grammars")
    add("--traces", metavar="URL", help="OpenTelemetry collector, such as http://127.0.0.1:4318")
    add("--log-level", choices=LOG_LEVELS, default="info", help="lowest to log (info)")
    add("--log-format", choices=("text", "json"), default="text", help="of log lines (text)")
    many("--cors", metavar="ORIGIN", help="an origin whose pages may use the server; none usually")
    add("--concurrency", type=int, metavar="N", default=4, help="sequences at once (4)")
    add("--connections", type=int, metavar="N", default=128, help="connections at once (128)")
    add("--max-waiting", type=int, metavar="N", default=64, help="requests that may wait (64)")
    add("--load-wait", type=int, metavar="S", default=60, help="seconds to wait for a model (60)")
    add("--max-body", type=int, metavar="KIB", default=256, help="size of a request (256)")
    add("--drain", type=int, metavar="S", default=30, help="seconds that answers get to end (30)")
    add("--plan", action="store_true", help="print what these options would take, and end")
    add("--json", action="store_true", help="with --plan: print one JSON object, nothing else")
    _add_sizes(parser)
    _add_choice(parser)
    _add_page_cache(parser)
    _add_engine(parser)


def _add_batch(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("input", metavar="INPUT", type=Path, help="requests, one JSON object per line")
    add("output", metavar="OUTPUT", type=Path, help="results; made, or gone on with")
    add("--model", metavar="MODEL", help=f"{_MODEL_HELP}; the catalog's default if left out")
    add("--concurrency", type=int, metavar="N", default=8, help="sequences at once (8)")
    add("--raw", action="store_true", help="no chat template for plain prompts")
    _add_sizes(parser)
    _add_choice(parser)
    _add_page_cache(parser)
    _add_engine(parser)
    _add_sampling(parser.add_argument_group("how answers are drawn").add_argument)


def _add_embed(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("model", metavar="MODEL", help=_MODEL_HELP)
    add("texts", metavar="TEXT", nargs="*", help="a text; without any, each line of stdin is one")
    add("--json", action="store_true", help="print one JSON object per text, nothing else")
    add("--pooling", metavar="NAME", help="mean or last (as the model was trained, else mean)")
    add("--dimensions", type=int, metavar="N", help="the first N elements (all)")
    add("--concurrency", type=int, metavar="N", default=8, help="texts at once (8)")
    _add_sizes(parser)
    _add_choice(parser)
    _add_engine(parser)
    parser.set_defaults(page_cache=None)


def _add_sampling(add: Callable[..., object]) -> None:
    add("--max-tokens", type=int, metavar="N", help="stop after so many (when the context is full)")
    add("--temperature", type=float, metavar="T", help="0 takes the likeliest (0.8)")
    add("--top-k", type=int, metavar="K", help="only the K likeliest, 0 for all (40)")
    add("--top-p", type=float, metavar="P", help="only the likeliest that make up P (0.95)")
    add("--min-p", type=float, metavar="P", help="only those with P times the likeliest's (0.05)")
    add("--repetition-penalty", type=float, metavar="X", help="shrink what was there before (1)")
    add("--presence-penalty", type=float, metavar="X", help="off what was generated before (0)")
    add("--frequency-penalty", type=float, metavar="X", help="the same, for each time (0)")
    add("--seed", type=int, metavar="N", help="the same seed draws the same answer")
    add("--stop", action="append", metavar="TEXT", help="end before this text; may be repeated")
    add("--logprobs", type=int, metavar="N", help="with JSON: log probabilities, and the N best")


def _add_bench(parser: ArgumentParser) -> None:
    add = parser.add_argument
    _add_model(parser)
    add("--json", action="store_true", help="print one JSON object, nothing else")
    add("--rows", metavar="N,N", default="1,2,4,8,16,32", help="sequences to decode at once")
    add("--prefill", metavar="N,N", default="128,512,2048", help="lengths of prompts")
    add("--quick", action="store_true", help="fractions of a second each: a first impression")
    _add_choice(parser)
    _add_engine(parser)


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
    add("--concurrency", type=int, metavar="N", help="with --memory: sequences of that plan (1)")
    add("--json", action="store_true", help="print one JSON object, nothing else")
    _add_sizes(parser)
    _add_choice(parser)
    _add_engine(parser, "audit what `tonnage plan` chooses for so many bytes (the file as it is)")
