"""What can be written behind `tonnage`: commands, options, help."""

import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from pathlib import Path

from tonnage import __version__

COMMANDS = ("run", "serve", "plan", "pull", "list", "rm", "doctor", "bench", "audit", "whatif")

_MODEL_HELP = (
    "a name of the catalog (see `tonnage list`), a GGUF file, a folder of Hugging Face, or "
    "hf:owner/name[/file]"
)

_BENCH_NOTES = """\
Speeds stand beside ceilings measured in the same run, right before and after each of them:

  read bandwidth   GB/s at which the same threads read memory once, front to back (the best pass)
  int8 peak        GOPS of int8 multiply-adds in registers, with the same threads and instruction
                   set; a multiply-add counts as two
  bandwidth_share  weight_bytes_per_token x steps per second / read bandwidth: how much of the
                   memory's speed the weights alone take, each read once per step
  peak_share       2 x multiply-adds of the weight matrices / time / int8 peak; in a prefill the
                   output head counts once, for the last row

decode: so many sequences, each with a context of 64 tokens to begin with, compute one token each
per step, logits included, sampling left out; the median step. prefill: a fresh prompt; the median.
cold start: `tonnage run MODEL Hi --max-tokens 1` from process start to process end with the file in
the page cache, the median; peak RSS: the highest of those processes.
"""

_AUDIT_NOTES = """\
The text is cut into chunks of 512 tokens, and of each the second half is predicted.

  perplexity       e to the mean surprise of a token; lower is better
  KL divergence    of the model from the reference, over the whole vocabulary, in nats; 0: the same
  top-1 agreement  share of tokens where both find the same one the likeliest

The 95 % intervals take chunks for independent draws. The first chunks of one long text are not, and
say less about the rest of it: of 12 stretches of 20 chunks of WikiText-2, 7 intervals held the
perplexity of all. What was measured is kept, and found again while model, text and kernels are the
same.
"""

_PLAN_NOTES = """\
The bytes are those that `tonnage run` and Engine.open allocate and refuse by: the whole process,
interpreter included. A plan that does not fit ends with exit code 2 and the changes that would
each make it fit; with --json it is an object with "accepted": false and exit code 0. Without
--memory the budget is what this process can get now. Neither speed nor quality is predicted: the
JSON has no forecast and no quality.
"""

_WHATIF_NOTES = """\
Tokens per second follow from two terms; they overlap, so the slower one counts:

  seconds = max(bytes / (bandwidth x share), 2 x multiply-adds / (peak x share))

bytes: weights and KV pages that a token reads, from the model's headers. share: the part of the
bandwidth that decoding was seen to reach on that machine, or the median of the others. decode: one
sequence behind a full context; prefill: a fresh prompt of 512 tokens. A quantized model multiplies
in int8 where the machine has it. Caches never hold a model.

How good it is: against the published decode rates that the formula can express, 19 of them on 8
machines, the median error is 18% and the worst 102% when the machine is taken as never measured;
9% and 52% with its own measured share, which is the median of the same rates. Small models on fast
machines come out too fast, because what a step costs beside bytes and multiply-adds is no term.
There is no published prefill to compare with.

A machine file has the form of the shipped catalog, with one [device.NAME]:

  [device.box]
  name = "My box"
  [device.box.peak]
  int8 = 4.0e12
  [[device.box.tier]]
  name = "ddr"
  role = "memory"
  capacity_bytes = 68719476736
  bandwidth_bytes_per_s = 9.0e10
"""


def parse(argv: Sequence[str]) -> Namespace:
    """Return the parsed command line; its `command` is one of COMMANDS.

    Prints help, version or a mistake and raises SystemExit where there is nothing to run.
    """
    parser = _parser()
    if not argv:
        parser.print_help()
        raise SystemExit(0)
    if not argv[0].startswith("-") and argv[0] not in COMMANDS:
        from tonnage.core.nearest import did_you_mean

        hint = did_you_mean(argv[0], COMMANDS)
        print(f"tonnage: There is no command {argv[0][:100]!r}{hint}", file=sys.stderr)
        raise SystemExit(2)
    return parser.parse_args(argv)


def _parser() -> ArgumentParser:
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
    _add_plan(command("plan", "say what a model takes, before anything is loaded", _PLAN_NOTES))
    _add_models(
        command("pull", "fetch a model"),
        command("list", "show the models that can be pulled, and those that are here"),
        command("rm", "delete pulled models"),
    )
    doctor = command("doctor", "show what this machine has, and how fast it is at best")
    doctor.add_argument("--json", action="store_true", help="print one JSON object")
    doctor.add_argument("--disk", metavar="FILE", help="file to measure disk reads with")
    _add_bench(command("bench", "measure a model's speed beside the machine's", _BENCH_NOTES))
    _add_audit(
        command("audit", "measure a model's quality, alone or beside a reference", _AUDIT_NOTES)
    )
    notes = "forecast a model's speed on hardware that is not here", _WHATIF_NOTES
    _add_whatif(command("whatif", *notes))
    return parser


def _add_models(pull: ArgumentParser, listing: ArgumentParser, rm: ArgumentParser) -> None:
    pull.add_argument(
        "model", metavar="NAME", help="a name of the catalog, or hf:owner/name[/file]"
    )
    listing.add_argument("--json", action="store_true", help="print one JSON array")
    rm.add_argument("models", metavar="NAME", nargs="+", help="a pulled model")


def _add_engine(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("--threads", type=int, metavar="N", help="threads (the cores this process may use)")
    add("--precision", metavar="BITS", help="8bit or 4bit: quantize float weights while loading")
    add("--offline", action="store_true", help="fetch nothing")


def _add_plan(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "model",
        metavar="MODEL",
        nargs="?",
        help=f"{_MODEL_HELP}; the catalog's default if left out",
    )
    add("--memory", metavar="BYTES", help="for the whole process, such as 700MiB")
    add("--context", type=int, metavar="N", help="positions to reserve (4096, or the model's)")
    add("--concurrency", type=int, metavar="N", default=1, help="sequences at once (1)")
    add("--step-rows", type=int, metavar="N", help="tokens of a prompt computed at once (512)")
    add("--json", action="store_true", help="print one JSON object, nothing else")
    add("--explain", action="store_true", help="draw the items as a chart")
    _add_engine(parser)


def _add_run(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "model",
        metavar="MODEL",
        nargs="?",
        help=f"{_MODEL_HELP}; the catalog's default if left out",
    )
    add("prompt", metavar="PROMPT", nargs="?", help="what to answer; - reads it from stdin")
    add("--system", metavar="TEXT", help="system message")
    add(
        "--raw", action="store_true", help="give the prompt to the model as it is, no chat template"
    )
    add("--json", action="store_true", help="print one JSON object, nothing else")
    add("--context", type=int, metavar="N", help="positions to reserve (4096, or the model's)")
    add("--memory", metavar="BYTES", help="refuse to take more than this, such as 700MiB")
    add("--step-rows", type=int, metavar="N", help="tokens of a prompt computed at once (512)")
    add("--ledger", action="store_true", help="show what each item took, after the answer")
    _add_engine(parser)
    _add_sampling(parser.add_argument_group("how the answer is drawn").add_argument)


def _add_serve(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "model",
        metavar="MODEL",
        nargs="?",
        help=f"{_MODEL_HELP}; the catalog's default if left out",
    )
    add(
        "--host",
        metavar="HOST",
        default="127.0.0.1",
        help="address; others than 127.0.0.1 need keys",
    )
    add("--port", type=int, metavar="N", default=8000, help="port, 0 for any free one (8000)")
    add("--keys", type=Path, metavar="FILE", help="TOML of API keys and quotas; docs/serving.md")
    add("--alias", metavar="NAME", action="append", help="one more name of the model")
    add("--forms", action="store_true", help="let answers be bound to JSON schemas and grammars")
    add("--memory", metavar="BYTES", help="for the whole process, such as 700MiB")
    add("--context", type=int, metavar="N", help="positions to reserve (4096, or the model's)")
    add("--concurrency", type=int, metavar="N", default=1, help="full contexts at once (1)")
    add("--step-rows", type=int, metavar="N", help="tokens of a prompt computed at once (512)")
    add("--connections", type=int, metavar="N", default=256, help="connections at once (256)")
    add("--max-waiting", type=int, metavar="N", default=64, help="requests that may wait (64)")
    add("--max-body", type=int, metavar="KIB", default=1024, help="size of a request (1024)")
    add("--drain", type=int, metavar="S", default=30, help="seconds that answers get to end (30)")
    _add_engine(parser)


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
    add("--logprobs", type=int, metavar="N", help="with --json: log probabilities, and the N best")


def _add_bench(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "model",
        metavar="MODEL",
        nargs="?",
        help=f"{_MODEL_HELP}; the catalog's default if left out",
    )
    add("--json", action="store_true", help="print one JSON object, nothing else")
    add("--rows", metavar="N,N", default="1,2,4,8,16,32", help="sequences to decode at once")
    add("--prefill", metavar="N,N", default="128,512,2048", help="lengths of prompts")
    add("--quick", action="store_true", help="fractions of a second each: a first impression")
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
    add("--text", type=Path, metavar="FILE", help="UTF-8 text (the reference of this Python)")
    add("--chunks", type=int, metavar="N", default=20, help="at most so many of 512 tokens (20)")
    add("--fresh", action="store_true", help="measure again what was measured before")
    add("--json", action="store_true", help="print one JSON object, nothing else")
    _add_engine(parser)


def _add_whatif(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "model",
        metavar="MODEL",
        nargs="?",
        help=f"{_MODEL_HELP}; the catalog's default if left out",
    )
    add(
        "--machine",
        metavar="NAME|FILE",
        action="append",
        default=[],
        help="a name of --list, or a TOML file of your own; may be repeated",
    )
    add("--list", action="store_true", help="show the machines that are known by name")
    add("--context", type=int, metavar="N", help="positions to reserve (4096, or the model's)")
    add("--precision", metavar="BITS", help="8bit or 4bit: quantize float weights while loading")
    add("--json", action="store_true", help="print one JSON object, nothing else")
    add("--offline", action="store_true", help="fetch nothing")
