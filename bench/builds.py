"""Two builds of Tonnage on the same GGUF file: runs A B B A, and prints ratios of medians.

    python bench/builds.py MODEL.gguf --before OLD/bin/tonnage --after NEW/bin/tonnage

A ratio above 1 means that the later build is better: more tokens per second, fewer seconds, fewer
bytes. Starts are whole processes: from their start to the end of a run of one token.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

from printed import printed

STARTS_PER_RUN = 4
MIB = 1 << 20


def main() -> int:
    """Compare and print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--before", required=True, help="the command `tonnage` of one build")
    parser.add_argument("--after", required=True, help="the command `tonnage` of the other build")
    parser.add_argument("--rows", default="1,8,32")
    parser.add_argument("--prefill", default="512")
    parser.add_argument("--runs", type=int, default=5, help="rounds of the alternation")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    errors = (OSError, subprocess.CalledProcessError, ValueError)
    return printed(args, args.runs, compare, print_table, errors)


def compare(args: argparse.Namespace) -> dict[str, Any]:
    """Run both builds in alternation, whichever came second first in the next round."""
    values: dict[str, dict[str, list[float]]] = {"before": {}, "after": {}}
    for number in range(args.runs):
        order = ["before", "after"] if number % 2 == 0 else ["after", "before"]
        for side in order:
            for name, value in bench(getattr(args, side), args).items():
                values[side].setdefault(name, []).append(value)
        for side in order * STARTS_PER_RUN:
            seconds, peak = one_token(getattr(args, side), args.model)
            values[side].setdefault("start to end of one token, s", []).append(seconds)
            values[side].setdefault("peak memory, MiB", []).append(peak / MIB)
    return {"model": args.model, "runs": args.runs, "figures": figures(values)}


def bench(command: str, args: argparse.Namespace) -> dict[str, float]:
    """Return tokens per second of one `tonnage bench`, by name."""
    words = [command, "bench", args.model, "--json", f"--rows={args.rows}"]
    words.append(f"--prefill={args.prefill}")
    out = subprocess.run(words, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    report = json.loads(out.stdout)
    speeds = {f"decode {row['rows']} rows, tok/s": row["tokens_per_s"] for row in report["decode"]}
    speeds |= {f"prefill {row['tokens']}, tok/s": row["tokens_per_s"] for row in report["prefill"]}
    return speeds | {"read bandwidth, GB/s": report["read_bandwidth_gb_s"]}


def one_token(command: str, model: str) -> tuple[float, int]:
    """Return seconds and peak resident bytes of a process that generates one token."""
    words = [command, "run", model, "Hello", "--max-tokens", "1"]
    start = time.perf_counter()
    process = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise ValueError(f"{' '.join(words)} ended with {process.returncode}.")
    return seconds, usage.ru_maxrss * 1024


def figures(values: dict[str, dict[str, list[float]]]) -> list[dict[str, Any]]:
    """Return medians, quartiles and the ratio of medians, better above 1, of each figure."""
    rows = []
    for name, before in values["before"].items():
        after = values["after"][name]
        was, now = statistics.median(before), statistics.median(after)
        more_is_better = name.endswith("/s")
        rows.append(
            {
                "figure": name,
                "before": was,
                "after": now,
                "ratio": now / was if more_is_better else was / now,
                "quartiles_before": statistics.quantiles(before, n=4),
                "quartiles_after": statistics.quantiles(after, n=4),
            }
        )
    return rows


def print_table(report: dict[str, Any]) -> None:
    """Print one line for each figure."""
    print(f"{report['model']}, {report['runs']} rounds")
    print(f"{'figure':<32}{'before':>10}{'after':>10}{'ratio':>8}   quartiles")
    for row in report["figures"]:
        ends = [
            f"{row[side][0]:.4g}..{row[side][2]:.4g}"
            for side in ("quartiles_before", "quartiles_after")
        ]
        print(
            f"{row['figure']:<32}{row['before']:>10.4g}{row['after']:>10.4g}"
            f"{row['ratio']:>8.3f}   {', '.join(ends)}"
        )


if __name__ == "__main__":
    sys.exit(main())
