"""A program: open a model under a budget, fill its context, then answer mixed prompts for a while.

Prints one JSON object: plan items, ledgers behind load, prefill, decode and the whole, peaks and
times. Only the standard library and tonnage, so that the process weighs what a user's does.

Run: python -m support.mixed_load MODEL --memory BYTES [--context N] [--quality NAME] [--seconds S]
"""

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

from tonnage.engine.engine import Engine
from tonnage.machine.memory_use import peak_rss_bytes

WORDS = "memory budget ledger plan token page cache weight model answer limit byte load step"


def measured(engine: Engine) -> dict[str, Any]:
    """Return the ledger, and the peak of the process so far."""
    return engine.ledger().to_dict()


def fill(engine: Engine, num_prompt: int) -> tuple[int, int]:
    """Prefill `num_prompt` tokens and decode to the end of the context; return both counts."""
    vocab, context = engine.plan.vocab_size, engine.plan.context_tokens
    prompt = [(i * 7919 + 13) % (vocab - 1) for i in range(num_prompt)]
    answer = engine.generate(
        prompt,
        temperature=1.0,
        top_p=0.95,
        seed=1,
        ignore_eos=True,
        max_tokens=context - num_prompt,
    ).complete()
    return len(answer.prompt), len(answer.tokens)


def mixed(engine: Engine, seconds: float) -> dict[str, int]:
    """Answer prompts of many lengths and kinds until `seconds` are over."""
    end = time.monotonic() + seconds
    words, context = WORDS.split(), engine.plan.context_tokens
    counts = {"answers": 0, "prompt_tokens": 0, "tokens": 0}
    while time.monotonic() < end:
        turn = counts["answers"]
        size = 1 + turn * 37 % (context // 4)
        text = " ".join(words[(turn + i) % len(words)] for i in range(size))
        tokens = engine.tokenizer.encode(text, add_special=True, parse_special=False)
        chat = " ".join(text.split()[: context // 32])
        answer = engine.generate(
            tokens[: context // 2] if turn % 3 else chat,
            temperature=(0.0, 0.8, 1.5)[turn % 3],
            top_k=(0, 40)[turn % 2],
            repetition_penalty=(1.0, 1.1)[turn % 2],
            max_tokens=8 + turn * 11 % 64,
            seed=turn,
        ).complete()
        counts["answers"] += 1
        counts["prompt_tokens"] += len(answer.prompt)
        counts["tokens"] += len(answer.tokens)
    return counts


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return what `work` returns, and its seconds."""
    begin = time.monotonic()
    return work(), time.monotonic() - begin


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--memory", required=True)
    parser.add_argument("--context", type=int)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--max-batch-tokens", type=int)
    parser.add_argument("--precision")
    parser.add_argument("--quality")
    parser.add_argument("--seconds", type=float, default=0.0)
    args = parser.parse_args()
    engine, load_s = timed(
        lambda: Engine.open(
            args.model, args.memory, context=args.context, threads=args.threads,
            max_batch_tokens=args.max_batch_tokens, precision=args.precision, quality=args.quality,
        )
    )  # fmt: skip
    with engine:
        told = {"load_s": load_s, "load": measured(engine)}
        context = engine.plan.context_tokens
        # All but one token, which the step behind the prompt needs; then once more with an answer.
        told["filled"], told["prefill_s"] = timed(lambda: fill(engine, context - 1))
        told["prefill"] = measured(engine)
        told["answered"], told["decode_s"] = timed(lambda: fill(engine, max(1, context - 96)))
        told["decode"] = measured(engine)
        if engine.tokenizer.chat_template is not None:
            engine.generate("Hello", max_tokens=4, temperature=1.0).complete()
        told["mixed"] = mixed(engine, args.seconds)
        told["end"] = measured(engine)
    told["peak_rss_bytes"] = peak_rss_bytes()
    print(json.dumps(told))


if __name__ == "__main__":
    main()
