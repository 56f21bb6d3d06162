"""The command line: a function for each command.

Each command is imported when it is called, so that one does not wait for what another needs.
"""

import sys
from collections.abc import Sequence
from typing import Any

# The function of each command, in a module of tonnage.cli.commands.
_COMMANDS = {
    "run": ("run", "run"),
    "chat": ("run", "run"),
    "serve": ("serve", "serve"),
    "ps": ("servers", "list_servers"),
    "stop": ("servers", "stop"),
    "plan": ("plan", "plan"),
    "batch": ("batch", "batch"),
    "embed": ("embed", "embed"),
    "pull": ("models", "pull"),
    "list": ("models", "list_all"),
    "show": ("show", "show"),
    "compare": ("show", "compare"),
    "rm": ("models", "remove_models"),
    "doctor": ("doctor", "doctor"),
    "bench": ("bench", "bench"),
    "audit": ("audit", "audit"),
    "calibrate": ("pack", "calibrate"),
    "pack": ("pack", "pack"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (sys.argv without it) and return the exit code.

    0: done. 2: what was asked for cannot be done, one sentence on stderr says why. 130: Ctrl-C.
    3: done, but for lines of a batch that were refused. 141: the reader of stdout went away.
    4: done, but a figure of an audit missed its --gate.
    1: a bug.
    """
    from tonnage.cli.failure import report_failure

    words = sys.argv[1:] if argv is None else argv
    try:
        for stream in (sys.stdin, sys.stdout, sys.stderr):
            _make_lenient(stream)
        code = _run(words)
        sys.stdout.flush()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 2
    except BaseException as error:
        return report_failure(error, debug="--debug" in words)
    return code


def _make_lenient(stream: Any) -> None:
    """Let what is no text in the encoding of a stream be replaced, never a reason to stop."""
    if not hasattr(stream, "reconfigure"):
        return
    errors = "replace"
    if stream is not sys.stdin and stream.encoding.lower() not in ("utf-8", "utf8"):
        from tonnage.cli.render.ascii_shapes import ASCII_SHAPES

        errors = ASCII_SHAPES
    stream.reconfigure(errors=errors)


def _run(words: Sequence[str]) -> int:
    from importlib import import_module

    from tonnage.cli.arguments import parse

    args = parse(words)
    module, function = _COMMANDS[args.command]
    code: int = getattr(import_module(f"tonnage.cli.commands.{module}"), function)(args)
    return code
