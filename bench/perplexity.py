"""Perplexity of a model on a text, scored as llama.cpp's `llama-perplexity` scores it.

The whole text is encoded once and cut into chunks of 512 tokens; where the model puts a beginning
token in front of a text, it takes the place of each chunk's first token. Of every chunk the tokens
257 to 511 are predicted, each from all that stand before it in the chunk.

Run: python bench/perplexity.py MODEL TEXT [--chunks 20] [--threads N] [--catalog FILE] [--json]
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tonnage.engine import Engine, Span

CONTEXT_TOKENS = 512
FIRST_SCORED = CONTEXT_TOKENS // 2
# Rows whose logits are kept at once: 64 of a vocabulary of 262k take 64 MiB.
LOGIT_ROWS = 64


def chunks(engine: Engine, text: str) -> Iterator[list[int]]:
    """Yield whole chunks of 512 token ids."""
    tokenizer = engine.tokenizer
    tokens = tokenizer.encode(text, add_special=True, parse_special=False)
    opening = tokenizer.encode("", add_special=True, parse_special=False)[:1]
    for begin in range(0, len(tokens) - CONTEXT_TOKENS + 1, CONTEXT_TOKENS):
        chunk = tokens[begin : begin + CONTEXT_TOKENS]
        yield [*opening, *chunk[len(opening) :]]


def chunk_scores(engine: Engine, tokens: list[int]) -> np.ndarray:
    """Return the negative log-likelihoods of tokens 257..511 of a chunk, in nats (float64)."""
    runtime = engine.runtime
    pages = list(range(engine.plan.kv.num_pages))
    runtime.step(tokens[:FIRST_SCORED], [Span(pages, FIRST_SCORED, 0)], [])
    scores = []
    for begin in range(FIRST_SCORED, CONTEXT_TOKENS, LOGIT_ROWS):
        part = tokens[begin : begin + LOGIT_ROWS]
        runtime.step(part, [Span(pages, len(part), begin)], list(range(len(part))))
        followers = tokens[begin + 1 : begin + 1 + len(part)]
        scores += [surprise(engine, row, token) for row, token in enumerate(followers)]
    return np.array(scores)


def surprise(engine: Engine, row: int, token: int) -> float:
    """Return -log softmax(logits of the last step's `row`)[token]."""
    logits = np.frombuffer(engine.runtime.logits(row), np.float32)
    peak = logits.max()
    total = np.exp(logits - peak).sum(dtype=np.float64)
    return float(np.log(total) + peak - logits[token])


def main() -> int:
    """Print the perplexity after each chunk, or one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("model")
    parser.add_argument("text", type=Path)
    parser.add_argument("--chunks", type=int, default=20)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--catalog", type=Path)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    scores: list[float] = []
    begin = time.perf_counter()
    with Engine.open(
        args.model,
        threads=args.threads,
        context=CONTEXT_TOKENS,
        max_logit_rows=LOGIT_ROWS,
        catalog=args.catalog,
    ) as engine:
        text = args.text.read_text("utf-8")
        for number, chunk in zip(range(1, args.chunks + 1), chunks(engine, text), strict=False):
            scores += chunk_scores(engine, chunk).tolist()
            if not args.json:
                print(f"[{number}] {np.exp(np.mean(scores)):.4f}", file=sys.stderr)
        name, isa = engine.source.name, engine.runtime.isa
    if not scores:
        print(f"{args.text} has less than {CONTEXT_TOKENS} tokens.", file=sys.stderr)
        return 2
    error = np.exp(np.mean(scores)) * np.std(scores) / np.sqrt(len(scores) - 1)
    report = {
        "model": name,
        "isa": isa,
        "num_chunks": len(scores) // (CONTEXT_TOKENS - FIRST_SCORED - 1),
        "num_scored": len(scores),
        "perplexity": float(np.exp(np.mean(scores))),
        "standard_error": float(error),
        "seconds": time.perf_counter() - begin,
    }
    text = "{model} ({isa}): {perplexity:.4f} ± {standard_error:.4f} over {num_chunks} chunks"
    print(json.dumps(report) if args.json else text.format(**report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
