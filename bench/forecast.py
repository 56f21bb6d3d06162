"""Forecast against fact: models x threads x rows, on this machine as it is in this run.

Run: python bench/forecast.py MODEL.gguf... [--threads 1,2] [--json]
The clock of a shared machine changes by a third within seconds. So a round of the probe
comes before every few steps of the model, and both are of the same machine.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import chain, product
from pathlib import Path
from statistics import median

from tonnage.core.rates import Rates
from tonnage.engine.engine import Engine, Span
from tonnage.machine.calibration import Probe
from tonnage.machine.host import read_machine
from tonnage.machine.placement import task_ids, team_on_cpus
from tonnage.planner.cost.forecast import prefill_s, step_s
from tonnage.planner.cost.work import Work, work_of

DECODE_ROWS = (1, 2, 4, 8)
PREFILL_TOKENS = (64, 512)
_SEQUENCE_TOKENS = 128
_PROMPT_TOKENS = 64
_DECODE_STEPS = 8
# By so much the machine may change between the first half of the rounds and the second.
STEADY = 0.08
_ROUNDS = 4

Point = tuple[str, int]
POINTS: tuple[Point, ...] = (
    *(("decode", rows) for rows in DECODE_ROWS),
    *(("prefill", tokens) for tokens in PREFILL_TOKENS),
)


@dataclass(frozen=True, slots=True)
class Pair:
    """One forecast beside its fact; drift: by how much the fact changed meanwhile."""

    model: str
    threads: int
    kind: str
    size: int
    forecast_s: float
    measured_s: float
    drift: float

    @property
    def error(self) -> float:
        """How far the forecast speed is from the measured one, relative to the latter."""
        return self.measured_s / self.forecast_s - 1


def compare(path: Path, threads: int) -> list[Pair]:
    """Measure one model with `threads` threads, decode and prefill, beside what is forecast.

    A round of the probe comes before every few steps, so both see the same machine.
    """
    rows, machine = max(DECODE_ROWS), read_machine()
    probe = Probe(machine, (threads,))
    before = task_ids()
    with Engine.open(
        str(path), threads=threads, context=640, concurrency=rows, max_logit_rows=rows, offline=True
    ) as engine:
        workers = sorted(task_ids() - before)
        work, steps = work_of(engine.plan), _Steps(engine)
        times: dict[Point, list[list[float]]] = {point: [] for point in POINTS}
        for _, point in product(range(_ROUNDS), POINTS):
            probe.round()
            with team_on_cpus(machine, workers):
                times[point].append(steps.take(*point))
    rates = probe.rates()
    return [_pair(path.stem, work, rates, point, each) for point, each in times.items()]


def _pair(
    model: str, work: Work, rates: Rates, point: Point, times: Sequence[Sequence[float]]
) -> Pair:
    half = len(times) // 2
    halves = [median(chain.from_iterable(part)) for part in (times[:half], times[half:])]
    measured = median(chain.from_iterable(times))
    drift = max(halves) / min(halves) - 1
    return Pair(model, work.threads, *point, _expected_s(work, rates, *point), measured, drift)


def _expected_s(work: Work, rates: Rates, kind: str, size: int) -> float:
    if kind == "decode":
        return step_s(work, rates, size, _PROMPT_TOKENS + _DECODE_STEPS // 2)
    return prefill_s(work, rates, size)


class _Steps:
    def __init__(self, engine: Engine) -> None:
        self._runtime, self._plan = engine.runtime, engine.plan
        for row in range(max(DECODE_ROWS)):
            span = Span(self._pages(row), _PROMPT_TOKENS, 0)
            self._runtime.step(self._tokens(_PROMPT_TOKENS, row), [span], [])

    def _pages(self, sequence: int) -> list[list[int]]:
        each = _SEQUENCE_TOKENS // self._plan.kv.page_tokens
        return self._tables(sequence * each, each)

    def _tables(self, first: int, count: int) -> list[list[int]]:
        return [list(range(first, first + count)) for _ in self._plan.kv.groups]

    def _tokens(self, count: int, salt: int) -> list[int]:
        return [(7919 * i + 104729 * salt + 17) % self._plan.vocab_size for i in range(count)]

    def take(self, kind: str, size: int) -> list[float]:
        """Return the seconds of some steps of one kind."""
        return self._decode(size) if kind == "decode" else self._prefill(size)

    def _decode(self, rows: int) -> list[float]:
        """Return the seconds of steps of `rows` sequences, all behind as many tokens."""
        times = []
        for number in range(_DECODE_STEPS):
            spans = [Span(self._pages(row), 1, _PROMPT_TOKENS + number) for row in range(rows)]
            times.append(self._timed(self._tokens(rows, number), spans, list(range(rows))))
        return times

    def _prefill(self, tokens: int) -> list[float]:
        """Return the seconds of a fresh prompt, its last logits included, once or more."""
        pages = self._tables(0, -(-tokens // self._plan.kv.page_tokens))
        prompt = self._tokens(tokens, 0)
        span = [Span(pages, tokens, 0)]
        return [self._timed(prompt, span, [tokens - 1]) for _ in range(1 if tokens > 64 else 3)]

    def _timed(self, tokens: list[int], spans: list[Span], logit_rows: list[int]) -> float:
        begin = time.perf_counter()
        self._runtime.step(tokens, spans, logit_rows)
        return time.perf_counter() - begin


def summary(pairs: Sequence[Pair]) -> tuple[float, float]:
    """Return the median and the worst error, without their signs."""
    errors = sorted(abs(pair.error) for pair in pairs)
    return median(errors), errors[-1]


def table(pairs: Sequence[Pair]) -> str:
    """Return a line per pair, the sizes of a step in milliseconds."""
    lines = [f"{'model':20} {'threads':>7} {'':8}{'size':>4} {'forecast':>9} {'measured':>9} error"]
    for pair in pairs:
        note = f"  (changed by {pair.drift:.0%})" if pair.drift > STEADY else ""
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
    pairs = [
        pair
        for path in args.models
        for threads in map(int, args.threads.split(","))
        for pair in compare(path, threads)
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
