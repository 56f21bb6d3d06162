"""From an exception to one sentence and an exit code."""

import os
import sys

from tonnage.cli.render.terminal import printable
from tonnage.core.errors import TonnageError

SOME_REFUSED = 3  # of several things that were asked for at once; the others were done
GATE_MISSED = 4  # an audit's figure is not what --gate demands


def report_failure(error: BaseException, *, debug: bool) -> int:
    """Print what went wrong on stderr and return the exit code that `main` states.

    debug: the traceback comes first.
    """
    if debug and not isinstance(error, KeyboardInterrupt):
        import traceback

        traceback.print_exception(error)
    match error:
        case KeyboardInterrupt():
            # The cursor stands behind half a line.
            print(file=sys.stdout if sys.stdout.isatty() else sys.stderr)
            return 130
        case BrokenPipeError():
            _forget_stdout()
            return 141
        case TonnageError():
            sentence, code = str(error), 2
        case MemoryError():
            sentence, code = (
                "The system has not enough memory left; use a smaller model or --context, or close "
                "other programs.",
                2,
            )
        case OSError():
            subject = f"{error.filename}: " if error.filename else ""
            sentence, code = f"{subject}{error.strerror or error}.", 2
        case _:
            sentence, code = (
                f"A bug: {type(error).__name__}: {error}. Run it again with --debug and report "
                "what it shows.",
                1,
            )
    print(f"tonnage: {_one_line(sentence)}", file=sys.stderr)
    return code


def _one_line(sentence: str) -> str:
    """Return the sentence as a terminal may show it; parts of it can be a hostile file's words."""
    line = printable(" ".join(sentence.split()), sys.stderr)
    return line if line.endswith((".", "?", "!")) else f"{line}."


def _forget_stdout() -> None:
    """Send what is still buffered nowhere, or the interpreter complains at its end."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError:
        return
