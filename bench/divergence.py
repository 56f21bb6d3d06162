"""How far logits lie from a float64 evaluation of the same weights, ours and llama.cpp's.

The reference is that of the tests (float64, no cache, no quantized activations) on the
checkpoint's decoded weights. The peer's logits and tokens come from
`bench/perplexity_llamacpp.py MODEL TEXT --chunks 1 --dump-logits L.npy --dump-tokens T.json`.

Run: python bench/divergence.py MODEL.gguf --tokens T.json [--peer-logits L.npy] [--positions 256]
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from tonnage.engine.engine import Engine, Span
from tonnage.formats.codec import dequantize
from tonnage.formats.gguf import GgufFile
from tonnage.models.registry import spec_from_gguf

# The reference transformer belongs to the tests; it shares no code with the product.
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

LOGIT_ROWS = 64


def reference_logits(path: Path, tokens: list[int]) -> np.ndarray:
    """Return float64 logits (len(tokens), vocab_size) of the decoded weights."""
    from oracles.transformer import forward
    from support.described import described

    with GgufFile.open(str(path)) as file:
        spec = spec_from_gguf(file.metadata, file.catalog)

        def tensor(name: str) -> np.ndarray:
            entry = spec.weights[name]
            raw = file.tensor_buffer(entry.name)
            return dequantize(entry.format, raw, entry.shape).astype(np.float64)

        return forward(described(spec), tensor, tokens)


def our_logits(path: Path, tokens: list[int], kv_format: str) -> np.ndarray:
    """Return the runtime's logits (len(tokens), vocab_size), float32."""
    rows = []
    context = -(-len(tokens) // 64) * 64
    sizes = {"context": context, "max_logit_rows": LOGIT_ROWS}
    with Engine.open(str(path), **sizes, kv_format=kv_format) as engine:
        pages = [list(range(group.num_pages)) for group in engine.plan.kv.groups]
        for begin in range(0, len(tokens), LOGIT_ROWS):
            part = tokens[begin : begin + LOGIT_ROWS]
            engine.runtime.step(part, [Span(pages, len(part), begin)], list(range(len(part))))
            rows += [np.frombuffer(engine.runtime.logits(i), np.float32) for i in range(len(part))]
    return np.stack(rows)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Return log probabilities in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def compare(reference: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    """Return mean and worst Kullback-Leibler divergence in nats, top-1 agreement, logit error."""
    exact, other = log_softmax(reference), log_softmax(logits)
    divergence = (np.exp(exact) * (exact - other)).sum(axis=-1)
    error = logits.astype(np.float64) - reference
    return {
        "mean_kld": float(divergence.mean()),
        "median_kld": float(np.median(divergence)),
        "max_kld": float(divergence.max()),
        "top1_agreement": float((exact.argmax(-1) == other.argmax(-1)).mean()),
        "relative_logit_error": float(np.linalg.norm(error) / np.linalg.norm(reference)),
    }


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--tokens", type=Path, required=True, help="JSON: chunks of token ids")
    parser.add_argument("--peer-logits", type=Path, help="the first chunk's logits, .npy")
    parser.add_argument("--positions", type=int, default=256)
    args = parser.parse_args()
    tokens = json.loads(args.tokens.read_text())[0][: args.positions]
    reference = reference_logits(args.model, tokens)
    report = {
        "positions": len(tokens),
        "tonnage": compare(reference, our_logits(args.model, tokens, "f16")),
        "tonnage, int8 pages": compare(reference, our_logits(args.model, tokens, "int8")),
    }
    if args.peer_logits:
        peer = np.load(args.peer_logits, mmap_mode="r")[: len(tokens)]
        report["peer"] = compare(reference, np.asarray(peer))
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
