"""`tonnage bench`: what a model does here, beside what this machine could do."""

import json
import os
import subprocess
import sys
import time
from argparse import Namespace
from dataclasses import dataclass
from statistics import median
from typing import Any

from tonnage.benchmark.speed import FULL, QUICK, SEQUENCE_TOKENS, Bench, Effort, Figure
from tonnage.cli.opening import on_load, tell_choice
from tonnage.cli.render.bench_table import render
from tonnage.cli.render.terminal import PullProgress, StatusLine
from tonnage.core.errors import ProbeError, RequestError
from tonnage.core.units import parse_bytes
from tonnage.engine.engine import Engine
from tonnage.machine.host import read_machine
from tonnage.store.catalog import open_catalogs
from tonnage.store.source import resolve

_MAX_ROWS = 256
_MAX_PREFILL = 1 << 17


@dataclass(frozen=True, slots=True)
class Start:
    """Of processes that load the model and make one token: median wall time, highest peak RSS."""

    seconds: float
    peak_rss_bytes: int


def bench(args: Namespace) -> int:
    """Measure the model of `args` and print a table or JSON; return the exit code."""
    if args.memory is not None:
        parse_bytes(args.memory)  # Before the model is looked for, and in our own words.
    rows = _numbers("--rows", args.rows, _MAX_ROWS)
    prompts = _numbers("--prefill", args.prefill, _MAX_PREFILL)
    effort = QUICK if args.quick else FULL
    status = StatusLine(sys.stderr)
    try:
        report = measure(args, rows, prompts, effort, status)
    finally:
        status.close()
    sys.stdout.write(json.dumps(report) + "\n" if args.json else render(report))
    return 0


def measure(
    args: Namespace, rows: list[int], prompts: list[int], effort: Effort, status: StatusLine
) -> dict[str, Any]:
    """Return the report as the object of `--json`."""
    machine = read_machine()
    catalogs = open_catalogs(args.catalog, os.environ)
    source = resolve(
        args.model, catalogs=catalogs, offline=args.offline, progress=PullProgress(sys.stderr)
    )
    # First, before this process holds a model of its own.
    status.show("cold start")
    start = cold_start(args, source.name, effort.repetitions)
    with _open_engine(args, rows, prompts, status) as engine:
        sections = Bench(engine, machine, effort, status.show)
        prompts = [tokens for tokens in prompts if tokens <= engine.max_context_tokens]
        decode, prefill = sections.decode(rows), sections.prefill(prompts)
        plan = engine.plan
        ceilings = [figure.ceiling for figure in (*decode, *prefill)]
        return {
            "model": source.name,
            "isa": engine.runtime.isa,
            "threads": plan.threads,
            "read_bandwidth_gb_s": median(ceiling.read_gb_s for ceiling in ceilings),
            "int8_peak_gops": median(ceiling.int8_gops for ceiling in ceilings),
            "weight_bytes_per_token": plan.weight_bytes_per_token,
            "decode": [_decode_row(figure, plan.weight_bytes_per_token) for figure in decode],
            "prefill": [_prefill_row(figure) for figure in prefill],
            "cold_start_s": start.seconds,
            "peak_rss_bytes": start.peak_rss_bytes,
        }


def cold_start(args: Namespace, name: str, repetitions: int) -> Start:
    """Run `tonnage run NAME Hi --max-tokens 1` some times, the first uncounted: it warms the cache.

    Raises ProbeError with the sentence of a run that fails.
    """
    # -P: a tonnage.py, or json.py, in the user's folder is not meant.
    command = [sys.executable, "-P", "-m", "tonnage", "run", name, "Hi", "--max-tokens", "1"]
    command += ["--json", "--offline"]
    for option in ("threads", "precision", "kv", "quality", "memory", "catalog"):
        value = getattr(args, option)
        command += [] if value is None else [f"--{option}", str(value)]
    seconds, peaks = [], []
    for _ in range(1 + repetitions):
        begin = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds.append(time.perf_counter() - begin)
        if done.returncode:
            sentence = done.stderr.strip()[-1000:].removeprefix("tonnage: ")
            raise ProbeError(f"The cold start failed: {sentence}")
        peaks.append(json.loads(done.stdout)["peak_rss_bytes"])
    return Start(median(seconds[1:]), max(peaks))


def _open_engine(
    args: Namespace, rows: list[int], prompts: list[int], status: StatusLine
) -> Engine:
    pool_tokens = max(SEQUENCE_TOKENS * max(rows, default=1), max(prompts, default=1))
    engine = Engine.open(
        args.model,
        args.memory,
        threads=args.threads,
        context=SEQUENCE_TOKENS,
        precision=args.precision,
        kv_format=args.kv,
        quality=args.quality,
        catalog=args.catalog,
        offline=args.offline,
        concurrency=-(-pool_tokens // SEQUENCE_TOKENS),
        max_logit_rows=max(rows, default=1),
        on_load=on_load(status),
    )
    tell_choice(engine)
    return engine


def _decode_row(figure: Figure, weight_bytes: int) -> dict[str, float]:
    gb_s = weight_bytes / figure.seconds / 1e9
    return {
        "rows": figure.size,
        "tokens_per_s": figure.tokens_per_s,
        "bandwidth_share": gb_s / figure.ceiling.read_gb_s,
        "peak_share": figure.peak_share,
        "gb_s": gb_s,
        "gops": figure.gops,
        "read_bandwidth_gb_s": figure.ceiling.read_gb_s,
        "int8_peak_gops": figure.ceiling.int8_gops,
    }


def _prefill_row(figure: Figure) -> dict[str, float]:
    return {
        "tokens": figure.size,
        "tokens_per_s": figure.tokens_per_s,
        "peak_share": figure.peak_share,
        "gops": figure.gops,
        "int8_peak_gops": figure.ceiling.int8_gops,
    }


def _numbers(option: str, text: str, limit: int) -> list[int]:
    """Return the numbers of `1,2,4`, none for an empty text. Raises RequestError."""
    numbers = []
    for word in filter(None, (part.strip() for part in text.split(","))):
        number = int(word) if word.isascii() and word.isdigit() and len(word) < 10 else 0
        if not 1 <= number <= limit:
            raise RequestError(
                f"{option} has {word[:40]!r}; write numbers from 1 to {limit:,}: 1,8."
            )
        numbers.append(number)
    return numbers
