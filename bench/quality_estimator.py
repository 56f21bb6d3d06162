"""What formats cost: measured divergences of mixes, and the estimator that is fitted to them.

`measure` loads every model as it stands and in several mixes of formats, and writes the mean
divergence of each mix from the file as it stands over the leading chunks of a text. `errors` writes
the relative error of each format on every matrix that may take it. `fit` reads both and prints the
constants for `tonnage.planner.quality.estimate`, and how far off the estimate is for a model that
was left out of the fit.

Run: python bench/quality_estimator.py measure TEXT MODEL.gguf ... --chunks 8 > klds.jsonl
     python bench/quality_estimator.py errors MODEL.gguf ... > errors.jsonl
     python bench/quality_estimator.py fit klds.jsonl errors.jsonl
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

# The wrappers of the kernels belong to the tests.
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from kernel_ops import wrappers
from kernel_ops.arena import Matrix
from tonnage._native import Executor, best_isa
from tonnage.backends.cpu.layout.cpu_layout import CpuLayout
from tonnage.blocks.attention import Attention
from tonnage.blocks.gated_mlp import GatedMlp
from tonnage.blocks.head import SENSITIVITY as HEAD
from tonnage.core.block_format import BY_NAME
from tonnage.core.model_spec import ModelSpec
from tonnage.engine.engine import Engine, Span
from tonnage.engine.headers import read_model
from tonnage.formats.codec import dequantize
from tonnage.formats.gguf import GgufFile
from tonnage.models.registry import spec_from_gguf
from tonnage.planner.quality.allocator import menus
from tonnage.planner.quality.estimate import (
    ANY_CHANGE,
    REFERENCE_WIDTH,
    SQUARED_ERROR_FROM,
    squared_error,
    width_factor,
)
from tonnage.quality.chunks import CONTEXT_TOKENS, FIRST_SCORED, cut
from tonnage.quality.rows import Row
from tonnage.store.source import ModelSource

LOGIT_ROWS = 64
# Bits per weight that a rung of a mix allows: 256-column formats and their 32-column neighbours.
RUNGS = {"Q6": 6.6, "Q5": 5.5, "Q4": 4.5, "IQ4": 4.25, "Q3": 3.5, "Q2": 2.7}
# Divergence per squared relative error of each kind of matrix, as its block states it.
SENSITIVITY = {**HEAD, **Attention.sensitivity, **GatedMlp.sensitivity}
GROUPS = {
    "table": ("embed", "head"), "qkv": ("q", "k", "v"), "o": ("o",), "gate_up": ("gate", "up"),
    "down": ("down",),
}  # fmt: skip
KINDS = tuple(kind for group in GROUPS.values() for kind in group)
SAMPLE_ROWS = 512


def kind_of(name: str) -> str:
    """Return the kind of a matrix: `down` of `layers.3.down`."""
    return name.rsplit(".", 1)[-1]


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
    for name, rungs in menus(spec, CpuLayout()).items():
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
    pages = [list(range(group.num_pages)) for group in engine.plan.kv.groups]
    engine.runtime.step(chunk[:FIRST_SCORED], [Span(pages, FIRST_SCORED, 0)], [])
    for begin in range(FIRST_SCORED, CONTEXT_TOKENS - 1, LOGIT_ROWS):
        part = chunk[begin : min(begin + LOGIT_ROWS, CONTEXT_TOKENS - 1)]
        engine.runtime.step(part, [Span(pages, len(part), begin)], list(range(len(part))))
        yield from (engine.runtime.logits(index) for index in range(len(part)))


def open_model(path: Path, formats: dict[str, str], kv_format: str = "f16") -> Engine:
    """Return the model with `formats`, room for one chunk."""
    return Engine.open(
        str(path), context=CONTEXT_TOKENS, max_logit_rows=LOGIT_ROWS, formats=formats,
        kv_format=kv_format, offline=True,
    )  # fmt: skip


def measure(path: Path, text: str, num_chunks: int) -> Iterator[dict[str, object]]:
    """Yield one line per mix of a model, and one of KV pages in int8."""
    spec, tokenizer = read_model(ModelSource(path.stem, path, "gguf"))
    chunks = cut(tokenizer, text)[:num_chunks]
    with open_model(path, {}) as engine:
        reference = [list(logits_of(engine, chunk)) for chunk in chunks]
    for name, formats in [("KV int8", {}), *mixes(spec)]:
        with open_model(path, formats, "f16" if formats else "int8") as engine:
            means = []
            for chunk, kept in zip(chunks, reference, strict=True):
                rows = zip(logits_of(engine, chunk), kept, strict=True)
                scores = [Row.of(a, name).divergence_from(Row.of(b, name)) for a, b in rows]
                means.append(float(np.mean(scores)))
        yield {
            "model": path.stem, "mix": name, "mean_kld": float(np.mean(means)),
            "standard_error": float(np.std(means, ddof=1) / len(means) ** 0.5),
            "num_chunks": len(chunks), "num_layers": len(spec.layers),
            "d_model": spec.d_model,
            "own": {n: e.format.name for n, e in spec.weights.items() if len(e.shape) == 2},
            "formats": formats,
        }  # fmt: skip


def errors(path: Path, team: Executor) -> Iterator[dict[str, object]]:
    """Yield the squared relative error of each smaller format, on the first rows of each matrix."""
    with GgufFile.open(str(path)) as file:
        spec = spec_from_gguf(file.metadata, file.catalog)
        for name, rungs in menus(spec, CpuLayout()).items():
            entry = spec.weights[name]
            shape = (min(SAMPLE_ROWS, entry.shape[0]), entry.shape[1])
            raw = bytes(file.tensor_buffer(entry.name)[: entry.format.nbytes(shape)])
            exact = dequantize(entry.format, raw, shape).astype(np.float64)
            whole = Matrix(entry.format, raw, shape)
            for rung in rungs[1:]:
                held = wrappers.packed_rows(team, whole, BY_NAME[rung.format])
                error = float(((held - exact) ** 2).sum() / (exact**2).sum())
                yield {"model": path.stem, "name": name, "own": entry.format.name,
                       "format": rung.format, "squared_error": error}  # fmt: skip


def known_errors(lines: list[dict[str, Any]]) -> dict[tuple[str, str], float]:
    """Return (own format, format) -> median squared relative error over all matrices."""
    pairs: dict[tuple[str, str], list[float]] = {}
    for line in lines:
        pairs.setdefault((line["own"], line["format"]), []).append(line["squared_error"])
    plain: dict[str, list[float]] = {}
    for (own, fmt), values in pairs.items():
        if (own, fmt) not in SQUARED_ERROR_FROM:
            plain.setdefault(fmt, []).extend(values)
    found = {("", fmt): float(np.median(values)) for fmt, values in plain.items()}
    return found | {pair: float(np.median(pairs[pair])) for pair in SQUARED_ERROR_FROM}


@dataclass(frozen=True)
class Table:
    """Mixes as rows: what each group's error adds up to (any change first), and the divergence."""

    models: np.ndarray
    widths: np.ndarray
    errors: np.ndarray
    divergences: np.ndarray

    def scaled(self, exponent: float) -> np.ndarray:
        """Return the errors, those of narrow models raised."""
        return self.errors * (REFERENCE_WIDTH / self.widths[:, None]) ** exponent


def table_of(mixes_: list[dict[str, Any]], known: dict[tuple[str, str], float]) -> Table:
    """Return the measured mixes as numbers."""
    rows = []
    for mix in mixes_:
        row = dict.fromkeys(("any", *GROUPS), 0.0)
        row["any"] = 1.0
        for name, fmt in mix["formats"].items():
            group = next(g for g, kinds in GROUPS.items() if kind_of(name) in kinds)
            error = known.get((mix["own"][name], fmt), known["", fmt])
            outside = 1.0 if "head" in mix["own"] else 2.0
            row[group] += error * (1 / mix["num_layers"] if name.startswith("layers.") else outside)
        rows.append(list(row.values()))
    return Table(
        np.array([mix["model"] for mix in mixes_]), np.array([mix["d_model"] for mix in mixes_]),
        np.array(rows), np.array([mix["mean_kld"] for mix in mixes_]),
    )  # fmt: skip


def fit(errors_: np.ndarray, divergences: np.ndarray) -> np.ndarray:
    """Return positive constants of least squares between logarithms (Gauss-Newton, damped)."""
    start = np.log(np.r_[1e-3, np.full(errors_.shape[1] - 1, 3.0)])
    # A weak pull to the start keeps a constant in place that a model's mixes say nothing about.
    pull, damping, logs = 1e-2, 1e-3, start.copy()

    def misses(at: np.ndarray) -> np.ndarray:
        parts = np.log(errors_ @ np.exp(at)) - np.log(divergences)
        return np.r_[parts, pull**0.5 * (at - start)]

    for _ in range(300):
        weights = errors_ * np.exp(logs)
        slopes = np.r_[weights / weights.sum(axis=1)[:, None], pull**0.5 * np.eye(len(logs))]
        now = misses(logs)
        step = np.linalg.solve(slopes.T @ slopes + damping * np.eye(len(logs)), slopes.T @ now)
        if np.sum(misses(logs - step) ** 2) < np.sum(now**2):
            logs, damping = logs - step, damping / 2
        else:
            damping *= 3
    return np.exp(logs)


def left_out(table: Table, exponent: float) -> np.ndarray:
    """Return predicted over measured of every mix, by constants fitted to the other models."""
    scaled, ratios = table.scaled(exponent), np.empty(len(table.models))
    for model in set(table.models):
        own = table.models == model
        constants = fit(scaled[~own], table.divergences[~own])
        ratios[own] = scaled[own] @ constants / table.divergences[own]
    return ratios


def report(mixes_: list[dict[str, Any]], errors_: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the constants for several exponents of width, and how far off each is."""
    yield from (f"{m['model']}: KV int8 {m['mean_kld']:.3g}" for m in mixes_ if not m["formats"])
    mixes_ = [mix for mix in mixes_ if mix["formats"]]
    known = known_errors(errors_)
    for (own, fmt), value in sorted(known.items()):
        yield f"squared error {own or 'any'} -> {fmt}: {value:.3g}"
    table = table_of(mixes_, known)
    for exponent in (0.0, 0.5, 1.0, 1.5, 2.0, 2.5):
        constants = fit(table.scaled(exponent), table.divergences)
        off = np.abs(np.log(left_out(table, exponent)))
        yield f"width^-{exponent}: " + ", ".join(
            f"{name} {value:.3g}" for name, value in zip(("any", *GROUPS), constants, strict=True)
        )
        rms, nine, worst = np.sqrt((off**2).mean()), np.quantile(off, 0.9), off.max()
        yield "  left out: " + ", ".join(
            f"{what} x{np.exp(value):.2f}"
            for what, value in (("typical", rms), ("nine of ten", nine), ("worst", worst))
        )


def check(mixes_: list[dict[str, Any]]) -> Iterator[str]:
    """Yield what `tonnage.planner.quality.estimate` as it stands says of every measured mix."""
    for mix in mixes_:
        if not mix["formats"]:
            continue
        predicted = ANY_CHANGE * width_factor(mix["d_model"])
        for name, fmt in mix["formats"].items():
            share = 1 / mix["num_layers"] if name.startswith("layers.") else 1.0
            if name == "embed" and "head" not in mix["own"]:
                share = 2.0
            error = squared_error(mix["own"][name], fmt)
            part = SENSITIVITY[kind_of(name)] * share * error
            predicted += part * width_factor(mix["d_model"])
        yield (
            f"{mix['model']:20s} {mix['mix']:12s} measured {mix['mean_kld']:.4f} "
            f"+- {mix['standard_error']:.4f}, predicted {predicted:.4f}"
        )


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the JSON objects of a file, one a line."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


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
    three = commands.add_parser("fit")
    three.add_argument("klds", type=Path)
    three.add_argument("errors", type=Path)
    args = parser.parse_args()
    if args.command == "fit":
        mixes_ = read_lines(args.klds)
        print("\n".join([*report(mixes_, read_lines(args.errors)), *check(mixes_)]))
        return
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
