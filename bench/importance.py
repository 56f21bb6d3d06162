"""What importance gives: a packed file beside its source, loaded in the same formats without it.

`divergence` compares both with the source as it stands. Loading searches scales with all columns
alike, so the difference is the importance and the longer search, at the same formats and bytes.
`errors` prints, for each format, the median over all matrices of the weighted squared error with
importance over that without, on the first 256 rows of each.

Run: python bench/importance.py divergence SOURCE.gguf PACKED.gguf --text FILE [--chunks 12]
     python bench/importance.py errors SOURCE.gguf CALIBRATION
"""

import argparse
import json
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np

from tonnage._native import Executor, best_isa
from tonnage.core.block_format import BY_NAME
from tonnage.core.mix import Formats, lower_formats
from tonnage.engine.headers import read_spec
from tonnage.formats.codec import dequantize
from tonnage.packing.calibration import read_calibration
from tonnage.packing.losses import rewritten
from tonnage.quality.audit import AuditText, Subject, prepare
from tonnage.store.source import ModelSource

ROWS = 256


def formats_of(source: ModelSource, packed: ModelSource) -> Formats:
    """Return (matrix, format) of those that the packed file has in another format."""
    before, after = read_spec(source).weights, read_spec(packed).weights
    return tuple(
        (name, after[name].format.name)
        for name, entry in before.items()
        if len(entry.shape) > 1 and after[name].format != entry.format
    )


def divergence(args: argparse.Namespace) -> None:
    """Print one JSON object a line: the packed file, then the source in its formats."""
    source, packed = (ModelSource(p.stem, p, "gguf") for p in (args.source, args.packed))
    text = AuditText.read(args.text)
    plain = Subject(source, formats=formats_of(source, packed))
    for what, subject in (("packed", Subject(packed)), ("loaded in its formats", plain)):
        result = prepare(subject, Subject(source), text, args.chunks).run()
        print(json.dumps({"what": what, **asdict(result)}), flush=True)


def errors(args: argparse.Namespace) -> None:
    """Print a line per format: the median ratio, the worst, and of how many matrices."""
    spec = read_spec(ModelSource("m", args.source, "gguf"))
    calibration, team = read_calibration(args.calibration), Executor(best_isa(), 2)
    ratios: dict[str, list[float]] = {}
    for name, entry in spec.weights.items():
        importance = calibration.importance(spec, name) if len(entry.shape) == 2 else None
        if importance is None:
            continue
        shape = (min(ROWS, entry.shape[0]), entry.shape[1])
        with open(entry.file, "rb") as file:
            raw = os.pread(file.fileno(), entry.format.nbytes(shape), entry.offset)
        exact = dequantize(entry.format, raw, shape).astype(np.float64)
        for fmt in lower_formats(shape[1])[1:]:
            found = []
            for weights in (importance, None):
                held = dequantize(BY_NAME[fmt], rewritten(team, entry, fmt, raw, weights), shape)
                found.append(float((importance * (held - exact) ** 2).sum()))
            if found[1] > 0:
                ratios.setdefault(fmt, []).append(found[0] / found[1])
    for fmt, values in ratios.items():
        print(f"{fmt:7} {np.median(values):.3f} median, {max(values):.3f} worst of {len(values)}")


def main() -> None:
    """Run one of the two commands."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("divergence")
    one.add_argument("source", type=Path)
    one.add_argument("packed", type=Path)
    one.add_argument("--text", type=Path, required=True)
    one.add_argument("--chunks", type=int, default=12)
    two = commands.add_parser("errors")
    two.add_argument("source", type=Path)
    two.add_argument("calibration", type=Path)
    args = parser.parse_args()
    divergence(args) if args.command == "divergence" else errors(args)


if __name__ == "__main__":
    main()
