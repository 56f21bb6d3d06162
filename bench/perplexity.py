"""Perplexity of a model on a text, scored as llama.cpp's `llama-perplexity` scores it.

`tonnage audit` measures the same and more; this prints the peer's form of it, with the standard
error over tokens, and keeps nothing. How a text is cut: `tonnage.quality.chunks`.

Run: python bench/perplexity.py MODEL TEXT [--chunks 20] [--threads N] [--catalog FILE] [--json]
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

from tonnage.engine.engine import Engine
from tonnage.quality.chunks import CONTEXT_TOKENS, LOGIT_ROWS, SCORED_TOKENS, cut, score


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
        kv_format="f16",
        catalog=args.catalog,
    ) as engine:
        text = args.text.read_text("utf-8")
        for number, chunk in enumerate(cut(engine.tokenizer, text)[: args.chunks], 1):
            scores += score(engine, chunk).nlls
            if not args.json:
                print(f"[{number}] {np.exp(np.mean(scores)):.4f}", file=sys.stderr)
        name, isa = engine.source.name, engine.runtime.kernels
    if not scores:
        print(f"{args.text} has less than {CONTEXT_TOKENS} tokens.", file=sys.stderr)
        return 2
    error = np.exp(np.mean(scores)) * np.std(scores) / np.sqrt(len(scores) - 1)
    report = {
        "model": name,
        "isa": isa,
        "num_chunks": len(scores) // SCORED_TOKENS,
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
