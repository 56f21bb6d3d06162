"""Measures Tonnage answering many prompts at once; `serving.py` runs it.

Prints a JSON object: build, threads, rows, seconds (one per repetition: from handing over all
prompts to the last token), new_tokens, macs, peak_rss_bytes.
"""

import json
import time

from serving_load import Load, arguments, peak_rss_bytes
from tonnage import __version__
from tonnage.core.sampling import SamplingOptions
from tonnage.engine.engine import Engine


def measure(engine: Engine, load: Load) -> list[float]:
    """Return the seconds of each repetition, after one that does not count."""
    options = SamplingOptions(temperature=0, ignore_eos=True, max_tokens=load.new_tokens)
    seconds = []
    for repetition in range(load.repetitions + 1):
        prompts = load.prompts(engine.plan.vocab_size, repetition)
        begin = time.perf_counter()
        answers = engine.generate_batch(prompts, options)
        seconds.append(time.perf_counter() - begin)
        load.check([len(answer.tokens) for answer in answers])
    return seconds[1:]


def main() -> None:
    """Measure and print."""
    model, load = arguments(__doc__)
    with Engine.open(
        model, threads=load.threads, concurrency=load.rows, context=load.tokens_per_sequence
    ) as engine:
        seconds = measure(engine, load)
        plan = engine.plan
        rows = load.rows * (load.prompt_tokens + load.new_tokens - 1)
        macs = rows * plan.macs_per_row + load.rows * load.new_tokens * plan.late_macs_per_row
        report = {
            "build": f"Tonnage {__version__} ({engine.runtime.kernels})",
            **load.report(seconds),
            "macs": macs,
            "planned_bytes": plan.total_bytes,
            "peak_rss_bytes": peak_rss_bytes(),
        }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
