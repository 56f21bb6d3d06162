"""Tonnage beside llama.cpp on the same GGUF file: runs A B A B, and prints ratios of medians.

    python bench/peers.py MODEL.gguf --peer-python /path/to/venv/bin/python

The peer's interpreter needs llama-cpp-python. A ratio above 1 means that Tonnage is better: more
tokens per second, fewer seconds, fewer bytes.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from printed import printed

WORKER = Path(__file__).with_name("llamacpp_worker.py")
LESS_IS_BETTER = ("cold start", "peak RSS")


@dataclass
class Series:
    """All values of one figure on both sides, in the order they were measured."""

    unit: str
    tonnage: list[float] = field(default_factory=list)
    peer: list[float] = field(default_factory=list)


Figures = dict[str, Series]


class PeerError(Exception):
    """A measured program failed; the message is for the user."""


def run_json(command: list[str]) -> dict[str, Any]:
    """Return the JSON object in the last line that `command` prints, or in all of it."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it said nothing"]
        raise PeerError(f"{' '.join(command)} ended with {done.returncode}: {lines[-1]}")
    try:
        result = json.loads(done.stdout)
    except ValueError:
        try:
            result = json.loads(done.stdout.strip().splitlines()[-1])
        except (ValueError, IndexError):
            raise PeerError(f"{' '.join(command)} printed no JSON") from None
    if not isinstance(result, dict):
        raise PeerError(f"{' '.join(command)} printed JSON that is no object")
    return result


def run_whole(command: list[str]) -> tuple[float, int]:
    """Return (seconds from start to end, peak RSS in bytes) of `command`."""
    start = time.perf_counter()
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        said = process.stderr.read().decode(errors="replace").strip()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise PeerError(f"{' '.join(command)} ended with {process.returncode}: {said[-200:]}")
    return seconds, usage.ru_maxrss * 1024


def rates(result: dict[str, Any]) -> dict[str, float]:
    """Return figure -> tokens per second of a result of either side."""
    decode = {f"decode, {row['rows']} rows": row["tokens_per_s"] for row in result["decode"]}
    prefill = {f"prefill {row['tokens']}": row["tokens_per_s"] for row in result["prefill"]}
    return {**decode, **prefill}


def add(figures: Figures, side: str, name: str, unit: str, value: float) -> None:
    """Append `value` to the side's list of figure `name`."""
    getattr(figures.setdefault(name, Series(unit)), side).append(value)


def measure_side(figures: Figures, side: str, bench: list[str], once: list[str]) -> dict[str, Any]:
    """Measure one side once; return what its bench printed."""
    result = run_json(bench)
    for name, value in rates(result).items():
        add(figures, side, name, "tok/s", value)
    seconds, peak = run_whole(once)
    add(figures, side, "cold start, 1 token", "s", seconds)
    add(figures, side, "peak RSS, 1 token", "MiB", peak / 2**20)
    return result


def ratio(name: str, ours: float, theirs: float) -> float:
    """Return how many times better `ours` is."""
    return theirs / ours if name.startswith(LESS_IS_BETTER) else ours / theirs


def summary(figures: Figures) -> list[dict[str, Any]]:
    """Return a row per figure that both sides have: medians, ranges and ratios.

    ratio_min and ratio_max are those of the runs taken in pairs, a run and its neighbour.
    """
    rows = []
    for name, series in figures.items():
        if not series.tonnage or not series.peer:
            continue
        pairs = [ratio(name, a, b) for a, b in zip(series.tonnage, series.peer, strict=False)]
        ours, theirs = statistics.median(series.tonnage), statistics.median(series.peer)
        rows.append(
            {
                "figure": name,
                "unit": series.unit,
                "tonnage": ours,
                "tonnage_range": [min(series.tonnage), max(series.tonnage)],
                "llamacpp": theirs,
                "llamacpp_range": [min(series.peer), max(series.peer)],
                "ratio": ratio(name, ours, theirs),
                "ratio_min": min(pairs),
                "ratio_max": max(pairs),
            }
        )
    return rows


def shares(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return Tonnage's shares of the ceilings of the same run, as medians over the runs."""
    named: dict[str, list[float]] = {}
    for result in results:
        for row in result["decode"]:
            for key in ("bandwidth_share", "peak_share"):
                if row.get(key) is not None:
                    named.setdefault(f"decode, {row['rows']} rows, {key}", []).append(row[key])
        for row in result["prefill"]:
            if row.get("peak_share") is not None:
                named.setdefault(f"prefill {row['tokens']}, peak_share", []).append(
                    row["peak_share"]
                )
    return [
        {"figure": name, "median": statistics.median(values), "range": [min(values), max(values)]}
        for name, values in named.items()
    ]


def print_tables(report: dict[str, Any]) -> None:
    """Print the ratios, then the shares of the ceilings."""
    print(f"{report['model']}, {report['threads']} threads, {report['runs']} alternating runs")
    print(f"llama.cpp: {report['llamacpp_build']}")
    header = ("", "Tonnage", "min..max", "llama.cpp", "min..max", "ratio", "min..max")
    lines = [header]
    for row in report["figures"]:
        ours, theirs = row["tonnage_range"], row["llamacpp_range"]
        lines.append(
            (
                f"{row['figure']}, {row['unit']}",
                f"{row['tonnage']:.2f}",
                f"{ours[0]:.2f}..{ours[1]:.2f}",
                f"{row['llamacpp']:.2f}",
                f"{theirs[0]:.2f}..{theirs[1]:.2f}",
                f"{row['ratio']:.2f}",
                f"{row['ratio_min']:.2f}..{row['ratio_max']:.2f}",
            )
        )
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    for line in lines:
        cells = [f"{cell:>{width}}" for cell, width in zip(line[1:], widths[1:], strict=True)]
        print("  ".join([f"{line[0]:<{widths[0]}}", *cells]))
    print("\nTonnage's share of the ceiling measured in the same run")
    for row in report["shares"]:
        low, high = row["range"]
        print(f"  {row['figure']:<40} {row['median']:.2f}  {low:.2f}..{high:.2f}")


def compare(args: argparse.Namespace) -> dict[str, Any]:
    """Run both sides alternately and return the report."""
    threads, tonnage = str(args.threads), args.tonnage.split()
    same = ["--threads", threads, "--kv", "f16"]  # the peer's pages
    bench = [*tonnage, "bench", args.model, "--json", *same]
    once = [*tonnage, "run", args.model, "Hi", "--max-tokens", "1", *same]
    worker = [args.peer_python, str(WORKER), args.model, "--threads", threads]
    figures: Figures = {}
    ours: list[dict[str, Any]] = []
    theirs: list[dict[str, Any]] = []
    for i in range(args.runs):
        print(f"run {i + 1} of {args.runs}", file=sys.stderr)
        ours.append(measure_side(figures, "tonnage", bench, once))
        theirs.append(measure_side(figures, "peer", worker, [*worker, "--one-token"]))
    return {
        "model": Path(args.model).name,
        "threads": args.threads,
        "runs": args.runs,
        "llamacpp_build": f"{theirs[0]['build']} ({theirs[0]['system']})",
        "figures": summary(figures),
        "shares": shares(ours),
        "tonnage_runs": ours,
        "llamacpp_runs": theirs,
    }


def default_tonnage() -> str:
    """Return the `tonnage` beside this interpreter, else the one on the PATH."""
    beside = Path(sys.executable).with_name("tonnage")
    return str(beside) if beside.exists() else shutil.which("tonnage") or "tonnage"


def main() -> int:
    """Compare, and print tables or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a GGUF file")
    parser.add_argument("--peer-python", required=True, help="interpreter with llama-cpp-python")
    parser.add_argument("--tonnage", default=default_tonnage(), help="the command to measure")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    return printed(args, args.runs, compare, print_tables, (PeerError, OSError))


if __name__ == "__main__":
    sys.exit(main())
