"""The command line: run, serve, plan, batch, embed, pull, list, rm, doctor, bench, audit.

Each command is imported when it is called, so that one does not wait for what another needs.
"""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import Namespace


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (sys.argv without it) and return the exit code.

    0: done. 2: what was asked for cannot be done, one sentence on stderr says why. 130: Ctrl-C.
    141: the reader of stdout went away. 1: a bug.
    """
    from tonnage.cli.arguments import parse
    from tonnage.cli.failure import report_failure

    debug = "--debug" in (sys.argv[1:] if argv is None else argv)
    try:
        # What is no text in the terminal's encoding is replaced, never a reason to stop.
        for stream in (sys.stdin, sys.stdout, sys.stderr):
            reconfigure = getattr(stream, "reconfigure", None)
            if reconfigure is not None:
                reconfigure(errors="replace")
        code = _dispatch(parse(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 2
    except BaseException as error:
        return report_failure(error, debug=debug)
    return code


def _dispatch(args: "Namespace") -> int:
    match args.command:
        case "run":
            from tonnage.cli.commands.run import run

            return run(args)
        case "serve":
            from tonnage.cli.commands.serve import serve

            return serve(args)
        case "plan":
            from tonnage.cli.commands.plan import plan

            return plan(args)
        case "batch":
            from tonnage.cli.commands.batch import batch

            return batch(args)
        case "embed":
            from tonnage.cli.commands.embed import embed

            return embed(args)
        case "pull":
            from tonnage.cli.commands.models import pull

            return pull(args)
        case "list":
            from tonnage.cli.commands.models import list_all

            return list_all(args)
        case "rm":
            from tonnage.cli.commands.models import remove_models

            return remove_models(args)
        case "doctor":
            from tonnage.cli.commands.doctor import doctor

            return doctor(args)
        case "audit":
            from tonnage.cli.commands.audit import audit

            return audit(args)
        case _:
            from tonnage.cli.commands.bench import bench

            return bench(args)
