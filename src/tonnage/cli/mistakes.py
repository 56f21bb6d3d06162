"""What is said of words behind `tonnage` that are none of ours; imported when there are some."""

import re
from argparse import ArgumentParser
from collections.abc import Iterable, Mapping

from tonnage.core.nearest import did_you_mean
from tonnage.core.version import VERSION

# Options of other programs that have no counterpart of another name: what to do instead.
_ELSEWHERE = {
    ("-ngl", "--n-gpu-layers", "--gpu-layers", "--gpu", "--device", "--tensor-parallel-size"): (
        "Tonnage computes on the CPU; leave it out"
    ),
    ("-fa", "--flash-attn", "--mlock", "--no-mmap", "--numa", "--enforce-eager"): (
        "there is nothing to choose here; leave it out"
    ),
    ("--gpu-memory-utilization", "--max-memory", "--ram", "--mem", "--cache-ram"): (
        "state bytes: --memory 8GiB"
    ),
    ("--cache-type-k", "--cache-type-v", "-ctk", "-ctv", "--kv-cache-dtype"): (
        "--kv f16 or --kv int8 does both keys and values"
    ),
    ("-i", "--interactive", "-cnv", "--conversation", "--interactive-first"): (
        "`tonnage chat MODEL` talks"
    ),
    ("--quantize", "--quantization", "--dtype", "--load-in-4bit", "--load-in-8bit"): (
        "--precision 8bit or 4bit quantizes float weights; --memory lets the plan choose"
    ),
    ("--api-key",): "put the key into TONNAGE_API_KEY, or several into a file for --keys",
    ("-hf", "--hf-repo", "-hfr", "--hf-file", "-hff"): "name the model: hf:owner/name/file.gguf",
    ("--verbose", "-v"): "`tonnage run --ledger` and `tonnage plan` tell more",
    ("--served-model-name",): "--alias NAME gives a model one more name",
}


def overview(summaries: Mapping[str, str]) -> ArgumentParser:
    """Return what names the commands, without what each takes."""
    parser = ArgumentParser(
        "tonnage",
        description="Large language models at the speed of the memory.",
        allow_abbrev=False,
    )
    parser.add_argument("-V", "--version", action="version", version=f"tonnage {VERSION}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in summaries.items():
        commands.add_parser(name, help=summary)
    return parser


def foreign(command: str, words: Iterable[str]) -> str | None:
    """Return what to do instead of an option of another program, None where there is none."""
    for word in words:
        flag = word.partition("=")[0]
        for flags, advice in _ELSEWHERE.items():
            if flag in flags:
                return f"`tonnage {command}` has no option {flag}: {advice}."
    return None


def unknown_command(name: str, known: Iterable[str]) -> str:
    """Return the sentence about a command that there is not."""
    return f"There is no command {name[:100]!r}{did_you_mean(name, known)}"


def not_understood(parser: ArgumentParser, word: str) -> str:
    """Return the sentence about a word that a command has no place for."""
    if not word.startswith("-"):
        return f"`{parser.prog}` has no place for {word[:100]!r}; see its --help."
    import difflib

    # Without the dashes, which all of them share.
    known = re.findall(r"(?<=--)[a-z][a-z-]+", parser.format_help().partition("options:")[2])
    name = word.partition("=")[0].strip("-").lower().replace("_", "-")
    near = difflib.get_close_matches(name, sorted(set(known)), n=2, cutoff=0.6)
    hint = f"did you mean {' or '.join(f'--{one}' for one in near)}?" if near else "see its --help."
    return f"`{parser.prog}` has no option {word[:100]}; {hint}"
