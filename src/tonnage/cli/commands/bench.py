"""`tonnage bench`: what a model does here, beside what this machine could do."""

import json
import os
import sys
from argparse import Namespace

from tonnage.benchmark.report import Report, measure, measure_cold_start
from tonnage.benchmark.speed import FULL, QUICK, Effort, engine_options
from tonnage.cli.opening import as_words, on_load, stated, tell_choice
from tonnage.cli.render.bench_table import render
from tonnage.cli.render.terminal import PullProgress, StatusLine
from tonnage.core.errors import RequestError
from tonnage.core.units import parse_bytes
from tonnage.engine.engine import Engine
from tonnage.engine.options import EngineOptions
from tonnage.machine.host import read_machine
from tonnage.store.catalog import open_catalogs
from tonnage.store.source import resolve

_MAX_ROWS = 256
_MAX_PREFILL = 1 << 17


def bench(args: Namespace) -> int:
    """Measure the model of `args` and print a table or JSON; return the exit code."""
    if args.memory is not None:
        parse_bytes(args.memory)  # Before the model is looked for, and in our own words.
    rows = _numbers("--rows", args.rows, _MAX_ROWS)
    prompts = _numbers("--prefill", args.prefill, _MAX_PREFILL)
    effort = QUICK if args.quick else FULL
    status = StatusLine(sys.stderr)
    try:
        report = _report(args, rows, prompts, effort, status)
    finally:
        status.close()
    sys.stdout.write(json.dumps(report.to_dict()) + "\n" if args.json else render(report))
    return 0


def _report(
    args: Namespace, rows: list[int], prompts: list[int], effort: Effort, status: StatusLine
) -> Report:
    machine = read_machine()
    catalogs = open_catalogs(args.catalog, os.environ)
    source = resolve(
        args.model, catalogs=catalogs, offline=args.offline, progress=PullProgress(sys.stderr)
    )
    # First, before this process holds a model of its own.
    status.show("cold start")
    start = measure_cold_start(source.name, as_words(args), effort.repetitions)
    options: EngineOptions = {**stated(EngineOptions, args), **engine_options(rows, prompts)}
    with Engine.open(args.model, args.memory, on_load=on_load(status), **options) as engine:
        tell_choice(engine)
        return measure(engine, machine, rows, prompts, effort, start, status.show)


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
