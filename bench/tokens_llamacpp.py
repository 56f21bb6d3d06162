"""Compare the token ids of GGUF files with those of llama.cpp (package xllamacpp).

Run: python bench/tokens_llamacpp.py TEXT_FILE MODEL.gguf ...
Needs tonnage and xllamacpp in one environment. Prints one line per model: how many parts of the
text were compared, and the first part that differs.
"""

import json
import os
import sys
import urllib.request
from pathlib import Path

import xllamacpp

from tonnage.formats.gguf import GgufFile
from tonnage.text.tokenizer import Tokenizer

PART_CHARS = 4000


class LlamaCpp:
    """llama.cpp's server over one model, asked for tokens only."""

    def __init__(self, path: str) -> None:
        """Load the model."""
        params = xllamacpp.CommonParams()
        params.model.path = path
        params.n_ctx, params.n_parallel, params.port = 256, 1, 0
        params.n_gpu_layers, params.warmup = 0, False
        self._server = xllamacpp.Server(params)

    def tokens(self, text: str) -> list[int]:
        """Return the ids of a text, control tokens parsed, nothing put round it."""
        body = json.dumps({"content": text, "add_special": False, "parse_special": True})
        url = self._server.listening_address + "/tokenize"
        request = urllib.request.Request(url, body.encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            found = json.load(answer)["tokens"]
        return [int(one) for one in found]


def compare(path: str, text: str) -> str:
    """Return what to print of a model."""
    referee = LlamaCpp(path)
    with GgufFile.open(path) as file:
        tokenizer = Tokenizer.from_gguf(file.metadata)
        parts = [text[i : i + PART_CHARS] for i in range(0, len(text), PART_CHARS)]
        for index, part in enumerate(parts):
            ids = tokenizer.encode(part, add_special=False, parse_special=True)
            right = referee.tokens(part)
            if ids != right:
                at = next(
                    (i for i, (a, b) in enumerate(zip(ids, right, strict=False)) if a != b), -1
                )
                shown = tokenizer.decode(right[max(0, at - 5) : at + 5])
                return f"part {index} of {len(parts)} differs at token {at}, near {shown!r}"
    return f"{len(parts)} parts of {len(text.encode()):,} bytes have the same ids"


def main() -> None:
    """Compare each model."""
    text = Path(sys.argv[1]).read_text("utf-8")
    for path in sys.argv[2:]:
        print(f"{Path(path).name}: {compare(path, text)}", flush=True)
    os._exit(0)  # The servers' threads do not end.


if __name__ == "__main__":
    main()
