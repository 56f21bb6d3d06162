"""The end of a comparison that is run by hand: tables or JSON, or a sentence and exit code 2."""

import json
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

Report = dict[str, Any]


def printed(
    args: Namespace,
    runs: int,
    compare: Callable[[Namespace], Report],
    print_tables: Callable[[Report], None],
    errors: tuple[type[Exception], ...],
) -> int:
    """Compare and print; return the exit code. args: with model and json.

    errors: what says in words why there is nothing to compare.
    """
    if runs < 1 or not Path(args.model).is_file():
        print("Give a GGUF file that exists, and at least 1 run.", file=sys.stderr)
        return 2
    try:
        report = compare(args)
    except errors as error:
        print(error, file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps(report, indent=1))
    else:
        print_tables(report)
    return 0
