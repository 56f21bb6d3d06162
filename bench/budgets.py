"""The smallest memory limits under which models run: Tonnage's plans, and llama.cpp beside them.

For Tonnage: the smallest budget that `tonnage plan` accepts for each of --qualities, found by
bisection, and a run in a cgroup of exactly that limit, which fills the context. For llama.cpp
(--peer-python): the same amount of work without a limit and under that of the first quality; with
--peer-smallest also the smallest limits under which it ends at all, and at less than twice the time
per token. Every run reads a copy of the file that nobody has in memory, in TMPDIR, which has to be
on a disk.

Run: python bench/budgets.py MODEL.gguf... [--contexts 256,1024,2048] [--peer-python PYTHON]
"""

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Cgroups and the program that fills a context belong to the tests.
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.cgroup import memory_group
from support.own_process import program, program_env
from support.page_cache import forget

WORKER = Path(__file__).with_name("llamacpp_worker.py")
MIB = 1 << 20
PLAN_STEP_BYTES = 64 << 10
PEER_STEP_BYTES = 16 * MIB
THRASHING = 2.0  # times as long per token as without a limit
TIMEOUT_S = 60


@dataclass(frozen=True)
class Run:
    """One answer under a limit; killed: by the kernel, or after TIMEOUT_S, or it gave up."""

    limit_bytes: int
    killed: bool
    told: dict[str, Any]


def smallest(low: int, high: int, step: int, holds: Callable[[int], bool]) -> int:
    """Return the least of low, low + step, .. for which `holds`, which does from there to high."""
    first, last = 0, (high - low) // step
    while first < last:
        middle = (first + last) // 2
        if holds(low + middle * step):
            last = middle
        else:
            first = middle + 1
    return low + first * step


def plan(model: Path, limit_bytes: int, options: list[str]) -> dict[str, Any]:
    """Return what `tonnage plan --json` says."""
    command = [sys.executable, "-m", "tonnage", "plan", str(model), "--json", *options]
    done = subprocess.run(
        [*command, "--memory", str(limit_bytes)],
        capture_output=True, text=True, check=True, env=program_env(),
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def accepted(model: Path, options: list[str]) -> dict[str, Any]:
    """Return the plan of the smallest budget in steps of 64 KiB that is accepted."""
    budget = smallest(
        32 * MIB, model.stat().st_size + 512 * MIB, PLAN_STEP_BYTES,
        lambda limit: bool(plan(model, limit, options)["accepted"]),
    )  # fmt: skip
    return plan(model, budget, options)


def run_limited(command: list[str], model: Path, limit_bytes: int) -> Run:
    """Run `command`, which prints JSON, under a limit and with a cold file."""
    forget(model)
    with memory_group(limit_bytes) as group:
        try:
            done = group.run(command, env=program_env(), timeout_s=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            print(f"{limit_bytes / MIB:.0f} MiB: over {TIMEOUT_S} s", file=sys.stderr)
            return Run(limit_bytes, True, {})
    ok = done.returncode == 0
    print(f"{limit_bytes / MIB:.0f} MiB: {done.returncode}, {done.wall_s:.1f} s", file=sys.stderr)
    if not ok and not done.num_oom_kills:
        print(f"at {limit_bytes:,} bytes: {done.stderr.strip()[-300:]}", file=sys.stderr)
    return Run(limit_bytes, not ok, json.loads(done.stdout) if ok else {})


def tonnage_row(model: Path, context: int, quality: str) -> dict[str, Any]:
    """Return the smallest budget at a quality, and what a run under it shows."""
    options = ["--context", str(context), "--quality", quality]
    chosen = accepted(model, options)
    budget = chosen["budget_bytes"]
    run = run_limited(
        program("mixed_load", str(model), "--memory", str(budget), *options), model, budget
    )
    told = run.told
    row = {"budget_bytes": budget, "killed": run.killed, "quality": chosen["quality"]}
    row |= {name: chosen[name] for name in ("kv_format", "max_batch_tokens")}
    if not run.killed:
        num_steps = told["answered"][1]
        row |= {"peak_rss_bytes": told["peak_rss_bytes"], "load_s": told["load_s"]}
        row |= {"prefill_s": told["prefill_s"], "answer_s": told["decode_s"], "steps": num_steps}
    return row


def peer_row(model: Path, command: list[str], limit_bytes: int) -> dict[str, Any]:
    """Return llama.cpp's figures with ample memory, and under a limit."""
    free = run_limited(command, model, model.stat().st_size + 1024 * MIB)
    if free.killed:
        raise SystemExit(f"{' '.join(command)} does not run without a limit either")
    tight = run_limited(command, model, limit_bytes)
    same = {"limit_bytes": limit_bytes, "killed": tight.killed, **tight.told}
    return {"free": free.told, "same_limit": same}


def peer_smallest(model: Path, command: list[str], free_token_s: float) -> dict[str, Any]:
    """Return llama.cpp's figures at its two smallest limits."""
    high = model.stat().st_size + 1024 * MIB
    seen: dict[int, Run] = {}

    def run(limit: int) -> Run:
        if limit not in seen:
            seen[limit] = run_limited(command, model, limit)
        return seen[limit]

    def steady(limit: int) -> bool:
        one = run(limit)
        return not one.killed and one.told["token_s"] < THRASHING * free_token_s

    low = 24 * MIB
    ends = smallest(low, high, PEER_STEP_BYTES, lambda limit: not run(limit).killed)
    keeps = smallest(ends, high, PEER_STEP_BYTES, steady)
    return {
        "ends": {"limit_bytes": ends, **run(ends).told},
        "steady": {"limit_bytes": keeps, **run(keeps).told},
    }


def measure(model: Path, contexts: list[int], args: argparse.Namespace) -> None:
    """Print a JSON object per context."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copy(model, Path(folder) / model.name))
        for context in contexts:
            row: dict[str, Any] = {"model": model.stem, "context": context}
            row |= {name: tonnage_row(copy, context, name) for name in args.qualities.split(",")}
            if args.peer_python:
                command = [args.peer_python, str(WORKER), str(copy), "--fill", str(context)]
                first = row[args.qualities.split(",")[0]]
                peer = peer_row(copy, command, first["budget_bytes"])
                if args.peer_smallest:
                    peer |= peer_smallest(copy, command, peer["free"]["token_s"])
                row["llama.cpp"] = peer
            print(json.dumps(row), flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--contexts", default="256,1024,2048")
    parser.add_argument("--qualities", default="lossless,balanced,small")
    parser.add_argument("--peer-python", help="an interpreter that has llama-cpp-python")
    parser.add_argument("--peer-smallest", action="store_true", help="bisect its limits too")
    args = parser.parse_args()
    # An end from outside removes the group and the copy too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    contexts = [int(part) for part in args.contexts.split(",")]
    for model in args.models:
        measure(model, contexts, args)


if __name__ == "__main__":
    main()
