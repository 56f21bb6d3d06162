"""Two builds of Tonnage on the same GGUF file, in alternation: ratios of neighbours in time.

    python bench/builds.py MODEL.gguf --before OLD/bin/tonnage --after NEW/bin/tonnage

Both builds stay open, and each figure goes A B, B A, A B ... with fresh prompts. A ratio above 1
means that the later build is better: more tokens per second, fewer seconds, fewer bytes. It is the
median of the pairs' ratios, with the interval that holds the true median 19 times in 20 (by order
statistics). Starts are whole processes: from their start to the end of a run of one token.
"""

import argparse
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from printed import printed

WORKER = Path(__file__).with_name("builds_worker.py")
MIB = 1 << 20
Pair = tuple[float, float]


def main() -> int:
    """Compare and print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--before", required=True, help="the command `tonnage` of one build")
    parser.add_argument("--after", required=True, help="the command `tonnage` of the other build")
    parser.add_argument("--rows", default="1,8,32")
    parser.add_argument("--prefill", default="512")
    parser.add_argument("--runs", type=int, default=40, help="pairs of each figure")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    errors = (OSError, subprocess.CalledProcessError, ValueError)
    return printed(args, args.runs, compare, print_table, errors)


def compare(args: argparse.Namespace) -> dict[str, Any]:
    """Measure all figures, first the speeds with both builds open, then the starts."""
    rows, prompts = (
        [int(size) for size in text.split(",") if size] for text in (args.rows, args.prefill)
    )
    jobs = [f"decode {size}" for size in rows] + [f"prefill {size}" for size in prompts]
    commands = (args.before, args.after)
    with ExitStack() as stack:
        workers = [stack.enter_context(_Worker(it, args.model, rows, prompts)) for it in commands]
        figures = [
            figure(
                f"{job}, tok/s",
                pairs(args.runs, lambda side, salt, job=job: workers[side].speed(job, salt)),
            )
            for job in jobs
        ]
    starts = pairs(args.runs, lambda side, _: one_token(commands[side], args.model))
    for index, name in enumerate(("start to end of one token, s", "peak memory, MiB")):
        figures.append(figure(name, [(was[index], now[index]) for was, now in starts]))
    return {"model": args.model, "runs": args.runs, "figures": figures}


class _Worker:
    """One build in a process that stays open."""

    def __init__(self, command: str, model: str, rows: list[int], prompts: list[int]) -> None:
        context = max(prompts, default=0) + 64
        python = Path(command).with_name("python")
        words = [python, WORKER, model, str(context), str(max(rows, default=1))]
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        if self._read() != "ready\n":
            raise ValueError(f"{command} did not open {model}.")

    def speed(self, job: str, salt: int) -> float:
        """Return tokens per second of one job."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{job} {salt}\n")
        seconds, tokens = self._read().split()
        return int(tokens) / float(seconds)

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def __enter__(self) -> "_Worker":
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def pairs(count: int, measure: Callable[[int, int], Any]) -> list[tuple[Any, Any]]:
    """Return `count` pairs of both sides' values; measure(side, number) makes one.

    One pair before them does not count. Who came first comes second in the next.
    """
    made = []
    for number in range(count + 1):
        first = number % 2
        values = {side: measure(side, number) for side in (first, 1 - first)}
        made.append((values[0], values[1]))
    return made[1:]


def one_token(command: str, model: str) -> Pair:
    """Return seconds and peak resident MiB of a process that generates one token."""
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
    return seconds, usage.ru_maxrss * 1024 / MIB


def figure(name: str, values: list[Pair]) -> dict[str, Any]:
    """Return both medians, and the median of the pairs' ratios with its interval."""
    more_is_better = name.endswith("/s")
    ratios = sorted(now / was if more_is_better else was / now for was, now in values)
    low, high = median_interval(len(ratios))
    return {
        "figure": name,
        "before": statistics.median(was for was, _ in values),
        "after": statistics.median(now for _, now in values),
        "ratio": statistics.median(ratios),
        "interval": [ratios[low], ratios[high]],
    }


def median_interval(count: int) -> tuple[int, int]:
    """Return the ranks, from 0, between which the median of `count` values lies in 19 of 20 cases.

    The number of values below the true median is binomial with 1/2; too few values give all.
    """
    tail, rank = 0.0, 0
    while (tail := tail + math.comb(count, rank) / 2**count) < 0.025:
        rank += 1
    return max(rank - 1, 0), count - 1 - max(rank - 1, 0)


def print_table(report: dict[str, Any]) -> None:
    """Print one line for each figure."""
    print(f"{report['model']}, {report['runs']} pairs")
    print(f"{'figure':<32}{'before':>10}{'after':>10}{'ratio':>8}   interval")
    for row in report["figures"]:
        low, high = row["interval"]
        print(
            f"{row['figure']:<32}{row['before']:>10.4g}{row['after']:>10.4g}"
            f"{row['ratio']:>8.3f}   {low:.3f}..{high:.3f}"
        )


if __name__ == "__main__":
    sys.exit(main())
