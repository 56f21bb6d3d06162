"""`tonnage doctor`."""

import sys
from argparse import Namespace

from tonnage.cli.render.terminal import StatusLine
from tonnage.machine.report import collect, render


def doctor(args: Namespace) -> int:
    """Print what this machine has, and its measured ceilings."""
    if args.measure:
        return _measure(json_wanted=args.json)
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


def _measure(*, json_wanted: bool) -> int:
    """Measure what forecasts need, keep it, and print where; return 0.

    Raises CacheError when it cannot be kept, ProbeError when it cannot be measured.
    """
    from tonnage.engine.expectation import rates_folder
    from tonnage.machine.calibration import measure_rates
    from tonnage.machine.host import read_machine
    from tonnage.machine.rates_file import store_rates
    from tonnage.store.cache import cache_errors

    status = StatusLine(sys.stderr, quiet_s=0)
    try:
        rates = measure_rates(
            read_machine(), progress=lambda share: status.show(f"measuring {share:.0%}")
        )
    finally:
        status.close()
    folder = rates_folder()
    with cache_errors(folder):
        store_rates(folder, rates)
    if json_wanted:
        print(rates.to_json())
        return 0
    for team in rates.teams:
        best = max(rate for product in team.products for _, rate in product.cached)
        print(
            f"{team.threads} thread{'s' if team.threads > 1 else ''}: memory "
            f"{team.read_bytes_per_s / 1e9:.1f} GB/s, products up to {best / 1e9:,.0f} GMAC/s, "
            f"{team.op_s * 1e6:.2f} us per operation"
        )
    print(f"kept in {folder}; `tonnage plan` and `tonnage run` forecast with it")
    return 0
