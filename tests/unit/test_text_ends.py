"""Well-known ends: what llama.cpp's vocabulary ends at (src/llama-vocab.cpp), whatever its type."""

import json
import struct

import pytest

from support.tiny_tokenizer import END, write_tokenizer_json
from text_support import LazyArray, byte_level_metadata, strings
from tonnage.text.tokenizer import Tokenizer

ENDS = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "<|fim_pad|>",
    "<fim-pad>",
    "<fim_pad>",
    "<PAD>",
    "[PAD]",
    "<|fim_repo|>",
    "<|repo_name|>",
    "<fim-repo>",
    "<REPO>",
    "<reponame>",
    "<|file_sep|>",
]
OTHERS = ["<|fim_prefix|>", "<|im_start|>", "<pad>", "<|note|>", "<s>"]
LETTERS = list("abcdefghijklmnopqrstuvwxyz<>_!|[]")
NORMAL, CONTROL, USER_DEFINED = 1, 3, 4


def byte_level(texts, kind):
    types = [NORMAL] * len(LETTERS) + [kind] * len(texts)
    metadata = byte_level_metadata([*LETTERS, *texts, "ab"], [("a", "b")], "gpt-2", [*types, 1])
    return Tokenizer.from_gguf(metadata)


def scored(texts, kind):
    base = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *LETTERS]
    tokens = [*base, *texts]
    types = [2, *[6] * 256, *[1] * (len(LETTERS) + 1), *[kind] * len(texts)]
    scores = [0.0] * 257 + [-9.0] * (len(LETTERS) + 1) + [-1.0] * len(texts)
    return Tokenizer.from_gguf(
        {
            "tokenizer.ggml.model": "llama",
            "tokenizer.ggml.tokens": strings(tokens),
            "tokenizer.ggml.token_type": LazyArray(
                struct.pack(f"<{len(types)}i", *types), len(types)
            ),
            "tokenizer.ggml.scores": LazyArray(
                struct.pack(f"<{len(scores)}f", *scores), len(scores)
            ),
            "tokenizer.ggml.unknown_token_id": 0,
        }
    )


@pytest.mark.parametrize("kind", [NORMAL, CONTROL, USER_DEFINED])
@pytest.mark.parametrize("build", [byte_level, scored])
@pytest.mark.parametrize("end", ENDS)
def test_a_well_known_end_ends_and_is_a_control_token(build, kind, end):
    tokenizer = build([end], kind)
    token = tokenizer.token_id(end)
    assert tokenizer.eos_ids == {token}
    assert tokenizer.is_control(token)
    assert tokenizer.encode(end, add_special=False, parse_special=True)[-1] == token
    assert token not in tokenizer.encode(end, add_special=False, parse_special=False)


@pytest.mark.parametrize("build", [byte_level, scored])
def test_other_tokens_are_no_ends(build):
    assert build(OTHERS, CONTROL).eos_ids == set()


@pytest.mark.parametrize(
    ("texts", "ends"),
    [
        (["<|return|>", "<|call|>", "<|end|>"], {"<|return|>", "<|call|>"}),
        (["<|calls|>", "<|flush|>", "<|end|>"], {"<|calls|>", "<|flush|>"}),
        (["<|return|>", "<|end|>"], {"<|return|>", "<|end|>"}),
        (["<|tool_response>", "</s>"], {"<|tool_response>"}),
        (["<u>", "</u>", "<s>", "</s>", "<eos>"], {"<eos>"}),
    ],
)
def test_beside_others_some_texts_are_no_ends(texts, ends):
    tokenizer = byte_level(texts, USER_DEFINED)
    assert {tokenizer.token_bytes(i).decode() for i in tokenizer.eos_ids} == ends
    no_end = next(text for text in texts if text in ("<|end|>", "</s>", "<s>"))
    assert tokenizer.is_control(tokenizer.token_id(no_end)) == (no_end in ends)


@pytest.mark.parametrize("key", ["eot", "eom", "fim_pad", "fim_rep", "fim_sep"])
def test_a_file_names_ends_by_their_keys(key):
    metadata = byte_level_metadata([*LETTERS, "ab"], [("a", "b")], "gpt-2")
    tokenizer = Tokenizer.from_gguf({**metadata, f"tokenizer.ggml.{key}_token_id": 3})
    assert tokenizer.eos_ids == {3}


def test_of_a_folder_only_added_tokens_are_well_known_ends(tmp_path):
    write_tokenizer_json(tmp_path, 300)
    path = tmp_path / "tokenizer.json"
    parts = json.loads(path.read_text())
    parts["model"]["vocab"] |= {"[EOS]": 300, "<|fim_pad|>": 301}
    told = {"id": 301, "content": "<|fim_pad|>", "special": False, "normalized": False}
    parts["added_tokens"].append({**told, "single_word": False, "lstrip": False, "rstrip": False})
    path.write_text(json.dumps(parts))
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert {tokenizer.token_bytes(i).decode() for i in tokenizer.eos_ids} == {END, "<|fim_pad|>"}
    assert tokenizer.decode([301]) == "<|fim_pad|>"
