"""Random files of tokenizer.json against the library that they are written for."""

import os

import pytest

from text_support import HARD_TEXTS
from tokenizer_variants import TEXTS, Variant, mixed_text
from tonnage.text.stream import Detokenizer
from tonnage.text.tokenizer import Tokenizer

CORPUS = [
    *HARD_TEXTS,
    "the quick brown fox jumps over the lazy dog's 12345 legs. A cat, concat! " * 4,
    "def f(x):\n    return x\n" * 3,
    "Straße Überraschung naïve café — n\u0303 ﬁne 日本語の文章 " * 3,
]
NUM_VARIANTS = int(os.environ.get("TONNAGE_TOKENIZER_VARIANTS", "200"))
TEXT_BYTES = int(os.environ.get("TONNAGE_TOKENIZER_TEXT_BYTES", "4000"))


def check(tokenizer: Tokenizer, variant: Variant, text: str) -> None:
    referee = variant.referee
    for parse in (True, False):
        referee.encode_special_tokens = not parse
        expected = referee.encode(text, add_special_tokens=parse).ids
        ids = tokenizer.encode(text, add_special=parse, parse_special=parse)
        assert ids == expected, (text[:80], variant.shape)
    decoded = tokenizer.decode(ids, keep_control=True)
    assert decoded == referee.decode(ids, skip_special_tokens=False), (text[:80], variant.shape)
    # A stream goes on behind a first token, so what only the first one loses is not lost there.
    stream = Detokenizer(tokenizer, keep_control=True)
    told = "".join([*map(stream.push, ids), stream.flush()])
    whole = b"".join(map(tokenizer.token_bytes, ids)).decode("utf-8", "replace")
    assert told == whole
    first = tokenizer.token_bytes(ids[0]).decode("utf-8", "replace") if ids else ""
    assert told.endswith(decoded[len(first) :])


@pytest.mark.parametrize("part", range(10))
def test_a_random_tokenizer_is_identical_to_the_reference(part, tmp_path):
    for seed in range(part, NUM_VARIANTS, 10):
        variant = Variant(seed, CORPUS)
        (tmp_path / "tokenizer.json").write_text(variant.json)
        tokenizer = Tokenizer.from_folder(tmp_path)
        for text in (*HARD_TEXTS, *TEXTS, mixed_text(seed, TEXT_BYTES)):
            check(tokenizer, variant, text)
