"""The tokenizer from GGUF metadata, on small vocabularies."""

import struct
import time

import pytest

from text_support import (
    HARD_TEXTS,
    LazyArray,
    add_tokens,
    byte_level_metadata,
    byte_level_referee,
    strings,
    trained,
)
from tonnage.core.errors import TokenizerError
from tonnage.text.tokenizer import Tokenizer

CORPUS = [
    *HARD_TEXTS,
    "the quick brown fox jumps over the lazy dog's 12345 legs " * 3,
    "def f(x):\n    return x\n" * 3,
]
SPECIALS = [("<|im_start|>", 3), ("<|im_end|>", 3), ("<tool>", 4), ("<tool>x", 4), ("  \n", 4)]


def plain(tokenizer, text, **options):
    return tokenizer.encode(text, **{"add_special": False, "parse_special": False, **options})


@pytest.mark.parametrize(
    "kind",
    [
        "gpt-2",
        "smollm",
        "qwen2",
        "llama-bpe",
        "tekken",
        "gpt-4o",
        "default",
        "deepseek-v3",
        "qwen35",
    ],
)
def test_byte_level_is_identical_to_the_reference(kind):
    tokens, merges = trained(CORPUS, kind, 600)
    vocab = {t: i for i, t in enumerate(tokens)}
    referee = byte_level_referee(vocab, merges, kind)
    add_tokens(referee, SPECIALS)
    types = [1] * len(tokens) + [k for _, k in SPECIALS]
    tokenizer = Tokenizer.from_gguf(
        byte_level_metadata([*tokens, *(t for t, _ in SPECIALS)], merges, kind, types)
    )
    texts = [*HARD_TEXTS, "a<tool>x<tool>y  \n<|im_end|><|im_start|>", "".join(HARD_TEXTS) * 40]
    for text in texts:
        for parse in (True, False):
            referee.encode_special_tokens = not parse
            expected = referee.encode(text, add_special_tokens=False).ids
            assert plain(tokenizer, text, parse_special=parse) == expected, text


def test_decoding_gives_the_text_back():
    tokens, merges = trained(CORPUS, "llama-bpe", 600)
    tokenizer = Tokenizer.from_gguf(byte_level_metadata(tokens, merges, "llama-bpe"))
    for text in HARD_TEXTS:
        assert tokenizer.decode(plain(tokenizer, text)) == text
    assert b"".join(tokenizer.token_bytes(i) for i in plain(tokenizer, "é中")) == "é中".encode()


def small(**changes):
    """Bytes and a few specials; ids: 256 <|bos|>, 257 <|im_end|>, 258 <tool>."""
    tokens, merges = trained([], "gpt-2", 256)
    metadata = byte_level_metadata(
        [*tokens, "<|bos|>", "<|im_end|>", "<tool>"],
        merges or [("a", "b")],
        "gpt-2",
        [1] * 256 + [3, 3, 4],
    )
    if not merges:
        metadata["tokenizer.ggml.tokens"] = strings(
            [*tokens, "<|bos|>", "<|im_end|>", "<tool>", "ab"]
        )
        metadata["tokenizer.ggml.token_type"] = LazyArray(
            struct.pack("<260i", *([1] * 256 + [3, 3, 4, 1])), 260
        )
    metadata["tokenizer.ggml.bos_token_id"] = 256
    metadata["tokenizer.ggml.eos_token_id"] = 257
    metadata.update(changes)
    return {k: v for k, v in metadata.items() if v is not ...}


def test_special_tokens_are_parsed_only_when_asked():
    tokenizer = Tokenizer.from_gguf(small())
    assert plain(tokenizer, "<|im_end|>", parse_special=True) == [257]
    assert len(plain(tokenizer, "<|im_end|>")) == len("<|im_end|>")
    assert plain(tokenizer, "<tool>") == [258]
    assert tokenizer.eos_ids == {257}
    assert tokenizer.bos_id == 256
    assert tokenizer.decode([257, *plain(tokenizer, "hi")]) == "hi"
    assert tokenizer.decode([257], keep_control=True) == "<|im_end|>"
    assert tokenizer.token_id("<|im_end|>") == 257
    assert tokenizer.token_id("ab") == 259
    assert tokenizer.token_id("none") is None


def test_bos_and_eos_follow_the_metadata():
    both = {"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.add_eos_token": True}
    tokenizer = Tokenizer.from_gguf(small(**both))
    assert tokenizer.encode("ab", add_special=True, parse_special=False) == [256, 259, 257]
    assert tokenizer.encode("ab", add_special=False, parse_special=False) == [259]
    by_kind = Tokenizer.from_gguf(
        small(**{"tokenizer.ggml.add_bos_token": ..., "tokenizer.ggml.pre": "llama-bpe"})
    )
    assert by_kind.encode("ab", add_special=True, parse_special=False) == [256, 259]


def test_end_tokens_are_collected():
    tokenizer = Tokenizer.from_gguf(
        small(**{"tokenizer.ggml.eos_token_id": 256, "tokenizer.ggml.eot_token_id": 258})
    )
    assert tokenizer.eos_ids == {256, 257, 258}
    absent = Tokenizer.from_gguf(small(**{"tokenizer.ggml.eos_token_id": 0xFFFFFFFF}))
    assert absent.eos_ids == {257}


def test_surrogates_are_replaced():
    tokenizer = Tokenizer.from_gguf(small())
    assert tokenizer.decode(plain(tokenizer, "a\ud800b")) == "a\ufffdb"
    assert tokenizer.decode(plain(tokenizer, "\ud83d\ude00")) == "😀"


def test_any_bytes_decode():
    tokenizer = Tokenizer.from_gguf(small())
    by_byte = {tokenizer.token_bytes(i): i for i in range(256)}
    data = bytes(range(256)) * 2
    assert tokenizer.decode([by_byte[bytes([b])] for b in data]) == data.decode("utf-8", "replace")


def scored(tokens, scores, types, **changes):
    n = len(tokens)
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": strings(tokens),
        "tokenizer.ggml.scores": LazyArray(struct.pack(f"<{n}f", *scores), n),
        "tokenizer.ggml.token_type": LazyArray(struct.pack(f"<{n}i", *types), n),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        **changes,
    }


BYTES = [f"<0x{b:02X}>" for b in range(256)]
WORDS = ["▁", "a", "b", "ab", "▁a", "▁ab", "ba", "▁▁", "aba", "é"]
SCORES = [-9.0, -8.0, -7.5, -1.0, -2.0, -0.5, -3.0, -0.1, -4.0, -6.0]
TOKENS = ["<unk>", "<s>", "</s>", *BYTES, *WORDS, "<x>"]
TYPES = [2, 3, 3, *[6] * 256, *[1] * len(WORDS), 4]
ALL_SCORES = [0.0, 0.0, 0.0, *[0.0] * 256, *SCORES, 0.0]


def names(tokenizer, ids):
    return [TOKENS[i] for i in ids]


def test_scored_merging_takes_the_best_score_then_the_leftmost():
    tokenizer = Tokenizer.from_gguf(scored(TOKENS, ALL_SCORES, TYPES))
    assert names(tokenizer, plain(tokenizer, "abab")) == ["▁ab", "ab"]
    assert names(tokenizer, plain(tokenizer, "ababa")) == ["▁ab", "aba"]
    assert names(tokenizer, plain(tokenizer, "  a")) == ["▁▁", "▁a"]
    assert names(tokenizer, plain(tokenizer, "é")) == ["▁", "é"]
    assert names(tokenizer, plain(tokenizer, "中")) == ["▁", "<0xE4>", "<0xB8>", "<0xAD>"]
    assert names(tokenizer, plain(tokenizer, "<s>a", parse_special=True)) == ["<s>", "▁a"]
    assert names(tokenizer, plain(tokenizer, "a<x>b")) == ["▁a", "<x>", "▁", "b"]
    assert tokenizer.encode("a", add_special=True, parse_special=False)[0] == 1
    assert plain(tokenizer, "") == []


def test_scored_space_prefix_is_added_and_taken_off():
    tokenizer = Tokenizer.from_gguf(scored(TOKENS, ALL_SCORES, TYPES))
    bare = Tokenizer.from_gguf(
        scored(TOKENS, ALL_SCORES, TYPES, **{"tokenizer.ggml.add_space_prefix": False})
    )
    for text in ("ab ab", " ab", "中\n", "a  b"):
        assert tokenizer.decode(plain(tokenizer, text)) == text
        assert bare.decode(plain(bare, text)) == text
    assert names(bare, plain(bare, "ab")) == ["ab"]
    assert tokenizer.token_bytes(TOKENS.index("<0x0A>")) == b"\n"


def test_control_tokens_never_come_out_of_plain_text():
    tokens = [*TOKENS, "<", "s", ">", "<s"]
    metadata = scored(tokens, [*ALL_SCORES, -1, -1, -1, -1], [*TYPES, 1, 1, 1, 1])
    assert 1 not in plain(Tokenizer.from_gguf(metadata), "<s>")


@pytest.mark.parametrize(
    "text", ["a" * 1_000_000, "ab" * 500_000, " " * 1_000_000, "中" * 300_000, "<" * 1_000_000]
)
def test_a_megabyte_without_a_word_break_takes_seconds_at_most(text):
    tokens, merges = trained(["a" * 64, "ab" * 32], "gpt-2", 300)
    begun = time.monotonic()
    for tokenizer in (
        Tokenizer.from_gguf(
            byte_level_metadata([*tokens, "<" * 900], merges, "gpt-2", [1] * len(tokens) + [4])
        ),
        Tokenizer.from_gguf(scored(TOKENS, ALL_SCORES, TYPES)),
    ):
        assert tokenizer.decode(plain(tokenizer, text)) == text
    assert time.monotonic() - begun < 20


def test_native_bytes_are_told():
    tokenizer = Tokenizer.from_gguf(small())
    assert 260 * 7 < tokenizer.nbytes < 100_000


@pytest.mark.parametrize("token_id", [-1, 260, 1 << 40])
def test_ids_outside_are_an_error(token_id):
    tokenizer = Tokenizer.from_gguf(small())
    with pytest.raises(TokenizerError, match="0 to 259"):
        tokenizer.decode([token_id])


@pytest.mark.parametrize("kind", [1, 3, 4, 5])
def test_merges_go_over_tokens_of_any_kind(kind):
    # Ids by llama.cpp: of "ing" of type 1, 3, 4 and 5.
    tokens, _ = trained([], "gpt-2", 256)
    whole = [*tokens, "in", "ing", "king"]
    merges = [("i", "n"), ("in", "g"), ("k", "ing")]
    types = [1] * 257 + [kind, 1]
    tokenizer = Tokenizer.from_gguf(byte_level_metadata(whole, merges, "gpt-2", types))
    s = tokens.index("s")
    assert plain(tokenizer, "king") == [258] if kind != 4 else [tokens.index("k"), 257]
    assert plain(tokenizer, "sing", parse_special=True) == [s, 257]
    assert tokenizer.decode([s, 257], keep_control=True) == ("s" if kind == 5 else "sing")


def test_rows_beyond_the_tokens_stand_for_nothing():
    tokenizer = Tokenizer.from_gguf(small(), num_rows=300)
    assert (tokenizer.vocab_size, tokenizer.num_ids) == (260, 300)
    assert tokenizer.decode([299, *plain(tokenizer, "hi"), 260]) == "hi"
    assert tokenizer.token_bytes(299) == b""
    assert not tokenizer.is_control(299)
    with pytest.raises(TokenizerError, match="0 to 299"):
        tokenizer.decode([300])


def test_tokens_that_only_pad_print_nothing():
    tokens, merges = trained([], "gpt-2", 256)
    types = [1] * 256 + [5]
    metadata = byte_level_metadata([*tokens, "[PAD256]"], merges, "gpt-2", types)
    tokenizer = Tokenizer.from_gguf(metadata)
    assert tokenizer.decode([256, 0], keep_control=True) == tokenizer.decode([0])
