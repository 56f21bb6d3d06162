"""`tonnage calibrate` and `tonnage pack`: files of fewer bytes, at a known cost."""

import json
import os
import sys
from argparse import Namespace
from dataclasses import asdict

from tonnage.cli.opening import on_load
from tonnage.cli.render.terminal import PullProgress, StatusLine
from tonnage.core.errors import PackError, RequestError
from tonnage.core.units import format_bytes, parse_bytes
from tonnage.store.catalog import open_catalogs
from tonnage.store.source import ModelSource, resolve


def calibrate(args: Namespace) -> int:
    """Measure second moments on a text and write them; return 0."""
    _require_numpy()
    from tonnage.packing.calibrate import calibrate as measure
    from tonnage.quality.audit import AuditText

    text = AuditText.read(args.text)
    source = _resolve(args)
    status = StatusLine(sys.stderr)

    def on_chunk(done: int, total: int) -> None:
        status.show(f"chunk {done} of {total}")

    try:
        found = measure(source, text, args.chunks, args.threads, on_load(status), on_chunk)
    finally:
        status.close()
    found.write(args.output)
    print(
        f"{args.output}: {len(found.moments):,} matrices of {source.name} on "
        f"{found.num_tokens:,} tokens of {text.name}"
    )
    return 0


def pack(args: Namespace) -> int:
    """Write a file of fewer bytes; return 0."""
    if (args.target is None) == (args.max_kld is None):
        raise RequestError("Say what is wanted: --target 420MiB, or --max-kld 0.05.")
    if args.max_kld is not None and not args.max_kld > 0:
        raise RequestError(f"--max-kld is {args.max_kld:g}; it is a divergence above 0, in nats.")
    _require_numpy()
    from tonnage.packing.calibration import read_calibration
    from tonnage.packing.pack import Observers, Target
    from tonnage.packing.pack import pack as write

    num_bytes = None if args.target is None else parse_bytes(args.target)
    calibration = None if args.calibration is None else read_calibration(args.calibration)
    source = _resolve(args)
    status = StatusLine(sys.stderr)

    def on_matrix(done: int, total: int) -> None:
        status.show(f"trying formats of matrix {done} of {total}")

    def on_bytes(done: int, total: int) -> None:
        status.show(f"writing {100 * done // max(total, 1)} %")

    threads = args.threads or len(os.sched_getaffinity(0))
    observers = Observers(on_matrix, on_bytes)
    try:
        report = write(
            source, Target(num_bytes, args.max_kld), calibration, args.output, threads, observers
        )
    finally:
        status.close()
    if args.json:
        print(json.dumps(asdict(report)))
        return 0
    low, high = report.estimated_kld / report.factor, report.estimated_kld * report.factor
    formats = ", ".join(f"{count:,} {name}" for name, count in report.formats.items())
    print(
        f"{report.file}: {format_bytes(report.file_bytes)} of {format_bytes(report.source_bytes)}, "
        f"{report.bits_per_weight:.2f} bits per weight\n"
        f"formats              {formats}\n"
        f"estimated KL         {report.estimated_kld:.3g} nats, probably {low:.2g} to {high:.2g}\n"
        f"measure it           tonnage audit {report.file} --reference {source.name}"
    )
    return 0


def _resolve(args: Namespace) -> ModelSource:
    catalogs = open_catalogs(args.catalog, os.environ)
    progress = PullProgress(sys.stderr)
    return resolve(args.model, catalogs=catalogs, offline=args.offline, progress=progress)


def _require_numpy() -> None:
    try:
        import tonnage.packing.calibration  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "numpy":
            raise
        raise PackError(
            "Packing needs numpy, which a run does not: `pip install numpy`, or Tonnage with its "
            "extra `audit`."
        ) from None
