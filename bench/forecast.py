"""Forecast against fact: models x threads x rows, on this machine as it is in this run.

Run: python bench/forecast.py MODEL.gguf... [--threads 1,2] [--json]
Every figure is a median of steps. Where threads had to wait for a CPU it is taken again, at most
three times, and then the fastest step counts: the forecast is of a machine that is not shared.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from tonnage.core.rates import Rates
from tonnage.engine import Engine, Span
from tonnage.machine.calibration import measure_rates
from tonnage.machine.counters import delay_ns
from tonnage.machine.host import read_machine
from tonnage.machine.placement import task_ids, team_on_cpus
from tonnage.planner.forecast import prefill_s, step_s
from tonnage.planner.work import work_of

DECODE_ROWS = (1, 2, 4, 8)
PREFILL_TOKENS = (64, 512)
_SEQUENCE_TOKENS = 128
_PROMPT_TOKENS = 64
_QUIET = 0.03
_TRIES = 3


@dataclass(frozen=True, slots=True)
class Pair:
    """One forecast beside its fact; delay: the share of the time that threads waited for a CPU."""

    model: str
    threads: int
    kind: str
    size: int
    forecast_s: float
    measured_s: float
    delay: float

    @property
    def error(self) -> float:
        """How far the forecast speed is from the measured one, relative to the latter."""
        return self.measured_s / self.forecast_s - 1


def compare(path: Path, threads: int, rates: Rates) -> list[Pair]:
    """Measure one model with `threads` threads, decode and prefill, beside what was forecast."""
    rows, before = max(DECODE_ROWS), task_ids()
    with (
        Engine.open(
            str(path), threads=threads, context=640, concurrency=rows, max_logit_rows=rows,
            offline=True,
        ) as engine,
        ExitStack() as place,
    ):  # fmt: skip
        work = work_of(engine.plan)
        place.enter_context(team_on_cpus(read_machine(), sorted(task_ids() - before)))
        bench = _Steps(engine)
        pairs = []
        for size in DECODE_ROWS:
            expected = step_s(work, rates, size, _PROMPT_TOKENS + 16)
            seconds, delay = _quiet(lambda n=size: bench.decode(n), threads)  # type: ignore[misc]
            pairs.append(Pair(path.stem, threads, "decode", size, expected, seconds, delay))
        for size in PREFILL_TOKENS:
            expected = prefill_s(work, rates, size)
            seconds, delay = _quiet(lambda n=size: bench.prefill(n), threads)  # type: ignore[misc]
            pairs.append(Pair(path.stem, threads, "prefill", size, expected, seconds, delay))
        return pairs


class _Steps:
    def __init__(self, engine: Engine) -> None:
        self._runtime, self._plan = engine.runtime, engine.plan

    def _pages(self, sequence: int) -> list[list[int]]:
        each = _SEQUENCE_TOKENS // self._plan.kv.page_tokens
        return self._tables(sequence * each, each)

    def _tables(self, first: int, count: int) -> list[list[int]]:
        return [list(range(first, first + count)) for _ in self._plan.kv.groups]

    def _tokens(self, count: int, salt: int) -> list[int]:
        return [(7919 * i + 104729 * salt + 17) % self._plan.vocab_size for i in range(count)]

    def decode(self, rows: int) -> list[float]:
        """Return the seconds of 32 steps of `rows` sequences behind 64 to 96 tokens."""
        for row in range(rows):
            span = Span(self._pages(row), _PROMPT_TOKENS, 0)
            self._runtime.step(self._tokens(_PROMPT_TOKENS, row), [span], [])
        times = []
        for number in range(32):
            spans = [Span(self._pages(row), 1, _PROMPT_TOKENS + number) for row in range(rows)]
            times.append(self._timed(self._tokens(rows, number), spans, list(range(rows))))
        return times

    def prefill(self, tokens: int) -> list[float]:
        """Return five times the seconds of a fresh prompt, its last logits included."""
        pages = self._tables(0, -(-tokens // self._plan.kv.page_tokens))
        prompt = self._tokens(tokens, 0)
        span = [Span(pages, tokens, 0)]
        return [self._timed(prompt, span, [tokens - 1]) for _ in range(5)]

    def _timed(self, tokens: list[int], spans: list[Span], logit_rows: list[int]) -> float:
        begin = time.perf_counter()
        self._runtime.step(tokens, spans, logit_rows)
        return time.perf_counter() - begin


def _quiet(measure: Callable[[], list[float]], threads: int) -> tuple[float, float]:
    """Return the seconds of a step, and the share of waiting for a CPU."""
    best = (float("inf"), 0.0)
    for _ in range(_TRIES):
        waited, begin = delay_ns(), time.perf_counter_ns()
        times = measure()
        delay = (delay_ns() - waited) / (time.perf_counter_ns() - begin) / threads
        if delay < _QUIET:
            return median(times), delay
        best = min(best, (min(times), delay))
    return best


def summary(pairs: Sequence[Pair]) -> tuple[float, float]:
    """Return the median and the worst error, without their signs."""
    errors = sorted(abs(pair.error) for pair in pairs)
    return median(errors), errors[-1]


def table(pairs: Sequence[Pair]) -> str:
    """Return a line per pair, the sizes of a step in milliseconds."""
    lines = [f"{'model':20} {'threads':>7} {'':8}{'size':>4} {'forecast':>9} {'measured':>9} error"]
    for pair in pairs:
        note = f"  (waited {pair.delay:.0%} for a CPU)" if pair.delay >= _QUIET else ""
        lines.append(
            f"{pair.model:20} {pair.threads:7} {pair.kind:8}{pair.size:4} "
            f"{pair.forecast_s * 1e3:9.3f} {pair.measured_s * 1e3:9.3f} {pair.error:+5.0%}{note}"
        )
    return "\n".join(lines)


def main() -> int:
    """Print the table; return 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL.gguf")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rates = measure_rates(read_machine())
    pairs = [
        pair
        for path in args.models
        for threads in map(int, args.threads.split(","))
        for pair in compare(path, threads, rates)
    ]
    middle, worst = summary(pairs)
    if args.json:
        print(json.dumps({"median": middle, "worst": worst, "pairs": [asdict(p) for p in pairs]}))
    else:
        print(table(pairs))
        print(f"error of the speed: median {middle:.1%}, worst {worst:.1%} of {len(pairs)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
