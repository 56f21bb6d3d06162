"""Embeddings of the paragraphs of a text: time, and agreement with llama.cpp where it is given.

    python bench/embeddings.py MODEL.gguf TEXT --llamacpp-python PATH

Prints one JSON object per pooling: tokens per second, and one minus the cosine of our vector and
llama.cpp's of the same paragraph (median, largest). Both engines tokenize for themselves.
"""

import argparse
import json
import subprocess
import time
from pathlib import Path
from statistics import median
from typing import Any

from tonnage.core.pooling import POOLINGS
from tonnage.engine.embedding import Embedding
from tonnage.engine.engine import Engine


def paragraphs(path: Path, count: int) -> list[str]:
    """Return the first paragraphs of at least 200 letters."""
    lines = (line.strip() for line in path.read_text().splitlines())
    return [line for line in lines if len(line) >= 200][:count]


def llamacpp(python: str, model: str, asked: dict[str, Any], threads: int) -> dict[str, Any]:
    """Return what `embeddings_llamacpp.py` prints."""
    script = str(Path(__file__).with_name("embeddings_llamacpp.py"))
    command = [python, script, model, "--threads", str(threads)]
    ran = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True)
    if ran.returncode:
        raise SystemExit(ran.stderr[-2000:])
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def distances(ours: list[Embedding], theirs: dict[str, Any]) -> list[float]:
    """Return one minus the cosine for every text."""
    pairs = zip(ours, theirs["vectors"], strict=True)
    return [1 - sum(a * b for a, b in zip(one.vector, other, strict=True)) for one, other in pairs]


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("text", type=Path)
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--llamacpp-python")
    args = parser.parse_args()
    texts = paragraphs(args.text, args.count)
    with Engine.open(
        args.model, context=args.context, threads=args.threads, concurrency=args.concurrency,
        quality="lossless",
    ) as engine:  # fmt: skip
        engine.embed(texts[:4])
        for pooling in POOLINGS:
            begin = time.perf_counter()
            ours = engine.embed(texts, pooling=pooling)
            seconds = time.perf_counter() - begin
            num_tokens = sum(one.num_tokens for one in ours)
            told: dict[str, Any] = {
                "pooling": pooling, "texts": len(texts), "tokens": num_tokens,
                "tokens_per_s": num_tokens / seconds,
            }  # fmt: skip
            if args.llamacpp_python:
                asked = {"texts": texts, "pooling": pooling, "context": args.context}
                theirs = llamacpp(args.llamacpp_python, args.model, asked, args.threads)
                away = distances(ours, theirs)
                told["llamacpp_tokens_per_s"] = sum(map(len, theirs["tokens"])) / theirs["seconds"]
                told["same_tokens"] = theirs["tokens"] == [
                    list(one) for one in engine.encode_inputs(texts)
                ]
                told |= {"distance_median": median(away), "distance_largest": max(away)}
            print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
