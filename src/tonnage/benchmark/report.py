"""All that a benchmark of one model found, and the processes that start it."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from tonnage.benchmark.speed import Effort, Figure, SpeedBenchmark
from tonnage.core.errors import ProbeError
from tonnage.core.machine import Machine
from tonnage.core.record import record
from tonnage.engine.engine import Engine


@record
class ColdStart:
    """Of processes that load a model and make one token: median wall time, highest peak RSS."""

    seconds: float
    peak_rss_bytes: int


@record
class Report:
    """Speeds of a model beside the machine's ceilings. decode, prefill: in the order asked for."""

    model: str
    isa: str
    threads: int
    weight_bytes_per_token: int
    decode: tuple[Figure, ...]
    prefill: tuple[Figure, ...]
    start: ColdStart

    @property
    def read_bandwidth_gb_s(self) -> float:
        """The median of the ceilings of all sections."""
        return median(one.ceiling.read_gb_s for one in (*self.decode, *self.prefill))

    @property
    def int8_peak_gops(self) -> float:
        """The median of the ceilings of all sections."""
        return median(one.ceiling.int8_gops for one in (*self.decode, *self.prefill))

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "model": self.model,
            "isa": self.isa,
            "threads": self.threads,
            "read_bandwidth_gb_s": self.read_bandwidth_gb_s,
            "int8_peak_gops": self.int8_peak_gops,
            "weight_bytes_per_token": self.weight_bytes_per_token,
            "decode": [_decode_values(one) for one in self.decode],
            "prefill": [_prefill_values(one) for one in self.prefill],
            "cold_start_s": self.start.seconds,
            "peak_rss_bytes": self.start.peak_rss_bytes,
        }


def measure(
    engine: Engine,
    machine: Machine,
    rows: Sequence[int],
    prompts: Sequence[int],
    effort: Effort,
    start: ColdStart,
    on_section: Callable[[str], None],
) -> Report:
    """Return the report of an engine that was opened with `engine_options(rows, prompts)`.

    Prompts longer than the model takes are left out. start: measured before the engine was opened.
    on_section receives the name of what is measured next. Raises ProbeError.
    """
    benchmark = SpeedBenchmark(engine, machine, effort, on_section)
    fitting = [tokens for tokens in prompts if tokens <= engine.max_context_tokens]
    plan = engine.plan
    return Report(
        model=engine.source.name,
        isa=engine.runtime.kernels,
        threads=plan.threads,
        weight_bytes_per_token=plan.weight_bytes_per_token,
        decode=tuple(benchmark.decode(rows)),
        prefill=tuple(benchmark.prefill(fitting)),
        start=start,
    )


def measure_cold_start(model: str, options: Sequence[str], repetitions: int) -> ColdStart:
    """Run `tonnage run MODEL Hi --max-tokens 1` some times; the first warms the cache, uncounted.

    options: more words of that command. Raises ProbeError with the sentence of a run that fails.
    """
    # -P: a tonnage.py, or json.py, in the user's folder is not meant.
    command = [sys.executable, "-P", "-m", "tonnage", "run", model, "Hi", "--max-tokens", "1"]
    command += ["--json", "--offline", *options]
    seconds, peaks = [], []
    for _ in range(1 + repetitions):
        begin = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds.append(time.perf_counter() - begin)
        if done.returncode:
            sentence = done.stderr.strip()[-1000:].removeprefix("tonnage: ")
            raise ProbeError(f"The cold start failed: {sentence}")
        peaks.append(json.loads(done.stdout)["peak_rss_bytes"])
    return ColdStart(median(seconds[1:]), max(peaks))


def _decode_values(figure: Figure) -> dict[str, float]:
    return {
        "rows": figure.size,
        "tokens_per_s": figure.tokens_per_s,
        "bandwidth_share": figure.bandwidth_share,
        "peak_share": figure.peak_share,
        "gb_s": figure.gb_s,
        "gops": figure.gops,
        "read_bandwidth_gb_s": figure.ceiling.read_gb_s,
        "int8_peak_gops": figure.ceiling.int8_gops,
    }


def _prefill_values(figure: Figure) -> dict[str, float]:
    return {
        "tokens": figure.size,
        "tokens_per_s": figure.tokens_per_s,
        "peak_share": figure.peak_share,
        "gops": figure.gops,
        "int8_peak_gops": figure.ceiling.int8_gops,
    }
