"""Perplexity of a text as llama.cpp's own tool scores it, through llama-cpp-python.

The text's tokens are cut into chunks of the context; each chunk starts with BOS (in place of its
first token) when the model wants one, and the tokens of its second half are scored.
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np

from llamacpp_session import Context, Model


def chunk_logits(context: Context, tokens: list[int]) -> np.ndarray:
    """Return the logits (len(tokens), vocab_size), float32, of one chunk."""
    context.clear()
    context.run([(token, i, 0) for i, token in enumerate(tokens)], all_logits=True)
    rows = [np.frombuffer(context.logits(i), dtype=np.float32).copy() for i in range(len(tokens))]
    return np.stack(rows)


def negative_log_likelihood(logits: np.ndarray, tokens: list[int]) -> tuple[float, int]:
    """Return the summed -log p of the second half's tokens, in float64, and how many they are."""
    first = len(tokens) // 2
    scored = logits[first:-1].astype(np.float64)
    targets = np.asarray(tokens[first + 1 :])
    top = scored.max(axis=1)
    log_sum = top + np.log(np.exp(scored - top[:, None]).sum(axis=1))
    return float((log_sum - scored[np.arange(len(targets)), targets]).sum()), len(targets)


def chunks_of(model: Model, text: str, context_tokens: int, most: int) -> list[list[int]]:
    """Return up to `most` chunks of `context_tokens` tokens each; what is left over is dropped."""
    tokens = model.tokenize(text)
    chunks = []
    for start in range(0, len(tokens) - context_tokens + 1, context_tokens)[:most]:
        chunk = tokens[start : start + context_tokens]
        chunks.append(chunk if model.bos is None else [model.bos, *chunk[1:]])
    return chunks


def main() -> None:
    """Score, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("text", type=Path)
    parser.add_argument("--chunks", type=int, default=20)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--dump-logits", type=Path, help="write the logits (rows, vocabulary) of the first chunk"
    )
    parser.add_argument("--dump-tokens", type=Path, help="write the tokens of all chunks as JSON")
    args = parser.parse_args()
    model = Model(args.model)
    chunks = chunks_of(model, args.text.read_text(), args.context, args.chunks)
    if args.dump_tokens:
        args.dump_tokens.write_text(json.dumps(chunks))
    total, count = 0.0, 0
    with Context(model, threads=args.threads, tokens_per_sequence=args.context) as context:
        for i, chunk in enumerate(chunks):
            logits = chunk_logits(context, chunk)
            if i == 0 and args.dump_logits:
                np.save(args.dump_logits, logits)
            nll, scored = negative_log_likelihood(logits, chunk)
            total, count = total + nll, count + scored
    perplexity = math.exp(total / count)
    print(json.dumps({"perplexity": perplexity, "chunks": len(chunks), "scored_tokens": count}))
    model.close()


if __name__ == "__main__":
    main()
