"""Embeddings as llama.cpp computes them, through llama-cpp-python; an interpreter that has it.

Reads {"texts": [...], "pooling": "mean" | "last", "context": N} from standard input, writes
{"vectors": [...], "tokens": [[...]], "seconds": S} with vectors of length 1.
"""

import argparse
import json
import sys
import time

import llama_cpp


def main() -> None:
    """Embed, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    asked = json.load(sys.stdin)
    kinds = {"mean": llama_cpp.LLAMA_POOLING_TYPE_MEAN, "last": llama_cpp.LLAMA_POOLING_TYPE_LAST}
    model = llama_cpp.Llama(
        args.model, embedding=True, pooling_type=kinds[asked["pooling"]], n_ctx=asked["context"],
        n_batch=512, n_ubatch=512, n_threads=args.threads, n_threads_batch=args.threads,
        verbose=False,
    )  # fmt: skip
    tokens = [model.tokenize(text.encode()) for text in asked["texts"]]
    begin = time.perf_counter()
    vectors = model.embed(asked["texts"], normalize=True)
    seconds = time.perf_counter() - begin
    json.dump({"vectors": vectors, "tokens": tokens, "seconds": seconds}, sys.stdout)


if __name__ == "__main__":
    main()
