"""Measures llama.cpp on one GGUF file and prints a JSON object; `peers.py` runs it.

Run with an interpreter that has llama-cpp-python. Keys: decode [{rows, tokens_per_s}], prefill
[{tokens, tokens_per_s}], peak_rss_bytes, build, system. With --one-token it loads, answers `Hi`
with one token, and prints {token, peak_rss_bytes}: the caller times the process. With --fill N it
fills a context of N tokens, the last 16 one by one, and prints {load_s, prefill_s, token_s,
peak_rss_bytes}.
"""

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable, Iterator

from llamacpp_session import Context, Model, api, system_info

PROMPT_TOKENS = 16
FILL_STEPS = 16


def fixed_tokens(vocab_size: int) -> Iterator[int]:
    """Yield the same pseudo-random token ids in every run; which ones does not change the work."""
    state = 12345
    while True:
        state = (state * 1103515245 + 12345) % (1 << 31)
        yield (state >> 8) % vocab_size


def decode_rate(model: Model, threads: int, rows: int, steps: int) -> float:
    """Return tokens per second, all rows together, behind a short prompt in each sequence."""
    tokens = fixed_tokens(model.vocab_size)
    cells = PROMPT_TOKENS + steps + 1
    with Context(model, threads=threads, tokens_per_sequence=cells, num_sequences=rows) as context:
        for sequence in range(rows):
            context.run([(next(tokens), i, sequence) for i in range(PROMPT_TOKENS)])
        context.run([(next(tokens), PROMPT_TOKENS, sequence) for sequence in range(rows)])
        start = time.perf_counter()
        for step in range(1, steps + 1):
            context.run([(next(tokens), PROMPT_TOKENS + step, s) for s in range(rows)])
            context.logits(rows - 1)
        return rows * steps / (time.perf_counter() - start)


def prefill_rate(model: Model, threads: int, num_tokens: int) -> float:
    """Return tokens per second of prompts of `num_tokens`, the median of about a second's worth."""
    tokens = fixed_tokens(model.vocab_size)
    with Context(model, threads=threads, tokens_per_sequence=num_tokens) as context:
        context.run([(next(tokens), i, 0) for i in range(min(32, num_tokens))])

        def prompt() -> None:
            context.run([(next(tokens), i, 0) for i in range(num_tokens)])
            context.logits(num_tokens - 1)

        return num_tokens / statistics.median(_times(prompt, context.clear))


def _times(work: Callable[[], None], reset: Callable[[], None]) -> list[float]:
    spent: list[float] = []
    while not spent or (len(spent) < 5 and sum(spent) < 1.0):
        reset()
        start = time.perf_counter()
        work()
        spent.append(time.perf_counter() - start)
    return spent


def one_token(model: Model, threads: int) -> int:
    """Return the most likely token after `Hi`."""
    prompt = model.tokenize("Hi")
    with Context(model, threads=threads, tokens_per_sequence=512) as context:
        context.run([(token, i, 0) for i, token in enumerate(prompt)])
        logits = context.logits(len(prompt) - 1)
        return max(range(model.vocab_size), key=logits.__getitem__)


def fill(path: str, threads: int, num_tokens: int) -> dict[str, object]:
    """Load the model, fill a context, and return what each part took; token_s is the median."""
    begin = time.perf_counter()
    model = Model(path)
    load_s = time.perf_counter() - begin
    tokens = fixed_tokens(model.vocab_size)
    with Context(model, threads=threads, tokens_per_sequence=num_tokens) as context:
        begin = time.perf_counter()
        prompt = num_tokens - FILL_STEPS
        context.run([(next(tokens), i, 0) for i in range(prompt)])
        context.logits(prompt - 1)
        prefill_s = time.perf_counter() - begin
        spent = []
        for position in range(prompt, num_tokens):
            begin = time.perf_counter()
            context.run([(next(tokens), position, 0)])
            context.logits(0)
            spent.append(time.perf_counter() - begin)
    model.close()
    token_s = statistics.median(spent)
    times = {"load_s": load_s, "prefill_s": prefill_s, "token_s": token_s}
    return {**times, "peak_rss_bytes": peak_rss_bytes()}


def peak_rss_bytes() -> int:
    """Return the most resident memory this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(model: Model, args: argparse.Namespace) -> dict[str, object]:
    """Return all figures of `model`."""
    decode = [
        {
            "rows": rows,
            "tokens_per_s": decode_rate(model, args.threads, rows, max(8, args.steps // rows)),
        }
        for rows in args.rows
    ]
    prefill = [
        {"tokens": tokens, "tokens_per_s": prefill_rate(model, args.threads, tokens)}
        for tokens in args.prefill
    ]
    return {
        "build": f"llama-cpp-python {api.__version__}",
        "system": system_info(),
        "threads": args.threads,
        "decode": decode,
        "prefill": prefill,
        "peak_rss_bytes": peak_rss_bytes(),
    }


def numbers(text: str) -> list[int]:
    """Return `1,8` as [1, 8]."""
    return [int(part) for part in text.split(",") if part]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=128, help="decode steps at one row")
    parser.add_argument("--rows", type=numbers, default=[1, 8])
    parser.add_argument("--prefill", type=numbers, default=[128, 512, 2048])
    parser.add_argument("--one-token", action="store_true")
    parser.add_argument("--fill", type=int, metavar="TOKENS")
    args = parser.parse_args()
    if args.fill:
        print(json.dumps(fill(args.model, args.threads, args.fill)))
        return
    model = Model(args.model)
    if args.one_token:
        token = one_token(model, args.threads)
        print(json.dumps({"token": token, "peak_rss_bytes": peak_rss_bytes()}))
    else:
        print(json.dumps(measure(model, args)))
    model.close()


if __name__ == "__main__":
    main()
