"""The engine's side of `http_speed.py`: `MODEL CONTEXT CONCURRENCY THREADS`, then lines of JSON.

A line of standard input is [prompts, new tokens of each]; the answer is {"seconds": ...}, from
handing over the prompts to the last token.
"""

import json
import sys
import time

from tonnage.core.sampling import SamplingOptions
from tonnage.engine.engine import Engine


def run(engine: Engine, prompts: list[list[int]], new_tokens: int) -> float:
    """Return how long the answers took; a single one as `tonnage run` makes it."""
    options = SamplingOptions(temperature=0, ignore_eos=True, max_tokens=new_tokens)
    begin = time.perf_counter()
    if len(prompts) == 1:
        answers = [engine.generate(prompts[0], options).complete()]
    else:
        answers = engine.generate_batch(prompts, options)
    seconds = time.perf_counter() - begin
    lengths = [len(answer.tokens) for answer in answers]
    if lengths != [new_tokens] * len(prompts):
        raise ValueError(f"answers have {lengths} tokens, not {new_tokens} each")
    return seconds


def main() -> None:
    """Serve the lines of standard input."""
    model, context, concurrency, threads = sys.argv[1], *map(int, sys.argv[2:5])
    with Engine.open(model, context=context, concurrency=concurrency, threads=threads) as engine:
        print(json.dumps({"vocab_size": engine.plan.vocab_size}), flush=True)
        for line in sys.stdin:
            prompts, new_tokens = json.loads(line)
            print(json.dumps({"seconds": run(engine, prompts, new_tokens)}), flush=True)


if __name__ == "__main__":
    main()
