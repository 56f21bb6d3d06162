"""What formats cost: measured divergences of mixes, and the estimator that is fitted to them.

`measure` loads every model as it stands and in several mixes of formats, and writes the mean
divergence of each mix from the file as it stands over the leading chunks of a text. `errors` writes
the relative error of each format on every matrix that may take it. `fit` reads both and prints the
constants of `tonnage.planner.quality`, and how far off the estimate is for a model that was left
out of the fit.

Run: python bench/quality_estimator.py measure TEXT MODEL.gguf ... --chunks 8 > klds.jsonl
     python bench/quality_estimator.py errors MODEL.gguf ... > errors.jsonl
     python bench/quality_estimator.py fit klds.jsonl errors.jsonl
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tonnage._native import Executor, best_isa
from tonnage.core.block_format import BY_NAME
from tonnage.core.model_spec import ModelSpec
from tonnage.engine import Engine, Span, read_model
from tonnage.formats.codec import dequantize
from tonnage.formats.gguf import GgufFile
from tonnage.models.registry import spec_from_gguf
from tonnage.models.source import ModelSource
from tonnage.ops import faces
from tonnage.ops.bench import Matrix
from tonnage.planner.precision import menus
from tonnage.planner.quality import kind_of
from tonnage.quality.chunks import CONTEXT_TOKENS, FIRST_SCORED, cut
from tonnage.quality.rows import Row

LOGIT_ROWS = 64
# Bits per weight that a rung of a mix allows: 256-column formats and their 32-column neighbours.
RUNGS = {"Q6": 6.6, "Q5": 5.5, "Q4": 4.5, "IQ4": 4.25, "Q3": 3.5, "Q2": 2.7}
GROUPS = {
    "table": ("embed", "head"), "qkv": ("q", "k", "v"), "o": ("o",), "gate_up": ("gate", "up"),
    "down": ("down",),
}  # fmt: skip
KINDS = tuple(kind for group in GROUPS.values() for kind in group)
SAMPLE_ROWS = 512


def mixes(spec: ModelSpec) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield (name, formats) of uniform rungs, then of single groups far down; no mix twice."""
    seen: set[tuple[tuple[str, str], ...]] = {()}
    wanted = [(rung, KINDS, bits) for rung, bits in RUNGS.items()]
    wanted += [(f"{name} Q3", kinds, RUNGS["Q3"]) for name, kinds in GROUPS.items()]
    wanted += [("down Q4", GROUPS["down"], 4.5), ("table Q4", GROUPS["table"], 4.5)]
    for name, kinds, bits in wanted:
        formats = down_to(spec, kinds, bits)
        key = tuple(sorted(formats.items()))
        if key not in seen:
            seen.add(key)
            yield name, formats


def down_to(spec: ModelSpec, kinds: tuple[str, ...], bits: float) -> dict[str, str]:
    """Return the formats that take matrices of `kinds` to at most `bits`, or as near as they go."""
    formats = {}
    for name, rungs in menus(spec).items():
        if kind_of(name) in kinds:
            fits = [rung for rung in rungs if bits_of(rung.format) <= bits]
            picked = fits[0] if fits else rungs[-1]
            if picked.format != spec.weights[name].format.name:
                formats[name] = picked.format
    return formats


def bits_of(fmt: str) -> float:
    """Return the bits of a weight."""
    return 8 * BY_NAME[fmt].block_bytes / BY_NAME[fmt].block_elems


def logits_of(engine: Engine, chunk: list[int]) -> Iterator[bytes]:
    """Yield the logits of the scored positions of a chunk."""
    pages = list(range(engine.plan.kv.num_pages))
    engine.runtime.step(chunk[:FIRST_SCORED], [Span(pages, FIRST_SCORED, 0)], [])
    for begin in range(FIRST_SCORED, CONTEXT_TOKENS - 1, LOGIT_ROWS):
        part = chunk[begin : min(begin + LOGIT_ROWS, CONTEXT_TOKENS - 1)]
        engine.runtime.step(part, [Span(pages, len(part), begin)], list(range(len(part))))
        yield from (engine.runtime.logits(index) for index in range(len(part)))


def open_model(path: Path, formats: dict[str, str]) -> Engine:
    """Return the model with `formats`, room for one chunk."""
    return Engine.open(
        str(path), context=CONTEXT_TOKENS, max_logit_rows=LOGIT_ROWS, formats=formats, offline=True
    )


def measure(path: Path, text: str, num_chunks: int) -> Iterator[dict[str, object]]:
    """Yield one line per mix of a model."""
    spec, tokenizer = read_model(ModelSource(path.stem, path, "gguf"))
    chunks = cut(tokenizer, text)[:num_chunks]
    with open_model(path, {}) as engine:
        reference = [list(logits_of(engine, chunk)) for chunk in chunks]
    for name, formats in mixes(spec):
        with open_model(path, formats) as engine:
            means = []
            for chunk, kept in zip(chunks, reference, strict=True):
                rows = zip(logits_of(engine, chunk), kept, strict=True)
                scores = [Row.of(a, name).divergence_from(Row.of(b, name)) for a, b in rows]
                means.append(float(np.mean(scores)))
        yield {
            "model": path.stem, "mix": name, "mean_kld": float(np.mean(means)),
            "standard_error": float(np.std(means, ddof=1) / len(means) ** 0.5),
            "num_chunks": len(chunks), "num_layers": len(spec.layers),
            "own": {n: e.format.name for n, e in spec.weights.items() if len(e.shape) == 2},
            "formats": formats,
        }  # fmt: skip


def errors(path: Path, team: Executor) -> Iterator[dict[str, object]]:
    """Yield the squared relative error of each smaller format, on the first rows of each matrix."""
    with GgufFile.open(str(path)) as file:
        spec = spec_from_gguf(file.metadata, file.catalog)
        for name, rungs in menus(spec).items():
            entry = spec.weights[name]
            shape = (min(SAMPLE_ROWS, entry.shape[0]), entry.shape[1])
            raw = bytes(file.tensor_buffer(entry.name)[: entry.format.nbytes(shape)])
            exact = dequantize(entry.format, raw, shape).astype(np.float64)
            whole = Matrix(entry.format, raw, shape)
            for rung in rungs[1:]:
                held = faces.packed_rows(team, whole, BY_NAME[rung.format])
                error = float(((held - exact) ** 2).sum() / (exact**2).sum())
                yield {"model": path.stem, "name": name, "own": entry.format.name,
                       "format": rung.format, "squared_error": error}  # fmt: skip


def main() -> None:
    """Run one of the three commands."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("measure")
    one.add_argument("text", type=Path)
    one.add_argument("models", type=Path, nargs="+")
    one.add_argument("--chunks", type=int, default=8)
    two = commands.add_parser("errors")
    two.add_argument("models", type=Path, nargs="+")
    args = parser.parse_args()
    team = Executor(best_isa(), 2)
    for path in args.models:
        if args.command == "measure":
            lines = measure(path, args.text.read_text("utf-8"), args.chunks)
        else:
            lines = errors(path, team)
        for line in lines:
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
