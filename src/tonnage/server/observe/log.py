"""What the operator is told, a line each on stderr."""

import sys
from contextlib import suppress


def say(sentence: str) -> None:
    """Print a line; whoever read the log may have ended, and no request fails for that.

    What moves a terminal's cursor is left out: parts of a sentence can be a hostile file's words.
    """
    line = "".join(filter(str.isprintable, " ".join(sentence.split())))
    with suppress(OSError):
        print(f"tonnage: {line}", file=sys.stderr, flush=True)
