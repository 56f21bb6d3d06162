"""One build of Tonnage under comparison: measures what standard input asks for; see builds.py.

    python builds_worker.py MODEL.gguf CONTEXT ROWS

A line is `KIND SIZE SALT`. `prefill N` completes a prompt of N tokens by one token, `decode N` N
short prompts at once by many. The reply is seconds and the number of tokens that count. Only what
every version's public face has is used, by its names of all versions.
"""

import sys
import time
from typing import Any

PROMPT_TOKENS = 8
NEW_TOKENS = 48


def main() -> None:
    """Open the model, say `ready`, then measure line by line."""
    try:
        from tonnage import Engine
    except ImportError:  # before it was a name of the package
        from tonnage.engine import Engine  # type: ignore[no-redef]
    path, context, rows = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    stated = {"context": context, "concurrency": rows, "kv_format": "int8", "quality": "lossless"}
    with Engine.open(path, **stated) as engine:
        print("ready", flush=True)
        for line in sys.stdin:
            kind, size, salt = line.split()
            print(*measure(engine, kind, int(size), int(salt)), flush=True)


def measure(engine: Any, kind: str, size: int, salt: int) -> tuple[float, int]:
    """Return the seconds of one batch, and its tokens: a prefill's prompt, else new ones."""
    from tonnage.core.sampling import SamplingOptions

    count, length = (1, size) if kind == "prefill" else (size, PROMPT_TOKENS)
    new = 1 if kind == "prefill" else NEW_TOKENS
    vocab = engine.plan.vocab_size
    prompts = [fresh_prompt(length, vocab, salt * 1000 + number) for number in range(count)]
    begin = time.perf_counter()
    done = engine.generate_batch(prompts, SamplingOptions(temperature=0.0, max_tokens=new))
    seconds = time.perf_counter() - begin
    return seconds, length if kind == "prefill" else sum(len(one.tokens) for one in done)


def fresh_prompt(length: int, vocab: int, salt: int) -> list[int]:
    """Return ids spread over the vocabulary that no earlier prompt began with."""
    return [
        (7919 * (index + 1) * (salt + 1) + 104729 * salt + 17) % vocab for index in range(length)
    ]


if __name__ == "__main__":
    main()
