"""`tonnage doctor`."""

import sys
from argparse import Namespace

from tonnage.cli.terminal import StatusLine
from tonnage.machine.report import collect, render


def doctor(args: Namespace) -> int:
    """Print what this machine has, and its measured ceilings."""
    status = StatusLine(sys.stderr, quiet_s=0)
    status.show("measuring, a few seconds")
    try:
        report = collect(args.disk)
    finally:
        status.close()
    if args.json:
        import json

        print(json.dumps(report, indent=1))
    else:
        sys.stdout.write(render(report))
    return 0
