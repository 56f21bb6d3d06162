"""A byte-level BPE tokenizer of any size, for tiny checkpoints: bytes, an end token, pairs."""

import json
from itertools import islice, product
from pathlib import Path

import gguf

NUM_BYTES = 256
END = "<|end|>"


def byte_letters() -> list[str]:
    """Return the letter that stands for each byte in GPT-2's vocabulary."""
    plain = {*range(33, 127), *range(161, 173), *range(174, 256)}
    spare = iter(range(256, 512))
    return [chr(byte if byte in plain else next(spare)) for byte in range(NUM_BYTES)]


def vocabulary(size: int) -> tuple[list[str], list[tuple[str, str]]]:
    """Return `size` tokens (bytes, END at 256, pairs of letters) and the merges of the pairs."""
    letters = "etaonihsrdlu"
    starts = [byte_letters()[ord(" ")], *letters]
    pairs = list(islice(product(starts, letters), max(0, size - NUM_BYTES - 1)))
    tokens = [*byte_letters(), END, *(first + second for first, second in pairs)]
    unused = [f"<|unused{index}|>" for index in range(size - len(tokens))]
    return tokens + unused, pairs


def add_tokenizer(writer: gguf.GGUFWriter, size: int) -> None:
    """Write the tokenizer as GGUF metadata."""
    tokens, pairs = vocabulary(size)
    kinds = [
        gguf.TokenType.CONTROL if token.startswith("<|") else gguf.TokenType.NORMAL
        for token in tokens
    ]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([f"{first} {second}" for first, second in pairs])
    writer.add_eos_token_id(NUM_BYTES)
    writer.add_add_bos_token(False)


def write_tokenizer_json(folder: Path, size: int) -> None:
    """Write the tokenizer as tokenizer.json and tokenizer_config.json."""
    tokens, pairs = vocabulary(size)
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    special = [
        {"id": index, "content": token, "special": True, "normalized": False,
         "single_word": False, "lstrip": False, "rstrip": False}
        for index, token in enumerate(tokens) if token.startswith("<|")
    ]  # fmt: skip
    model = {
        "type": "BPE",
        "vocab": {token: index for index, token in enumerate(tokens)},
        "merges": [f"{first} {second}" for first, second in pairs],
    }
    parts = {
        "version": "1.0",
        "added_tokens": special,
        "pre_tokenizer": {**byte_level, "use_regex": True},
        "decoder": byte_level,
        "model": model,
    }
    (folder / "tokenizer.json").write_text(json.dumps(parts))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
