"""SentencePiece's precompiled normalizer, on made-up maps, against the package tokenizers."""

import base64
import random
import struct

import pytest
from tokenizers import normalizers

from support.double_array import charsmap
from text_support import HARD_TEXTS, random_text
from tonnage.core.errors import TokenizerError
from tonnage.text.precompiled import precompiled

FORMS = {
    "single": {"ａ": "a", "①": "1", "ﬁ": "fi", "\u00a0": " ", "\u3000": " "},
    "nothing left": {"\u200b": "", "\u00ad": "", "\ufeff": "", "\x00": ""},
    "one begins another": {"e": "E", "e\u0301": "é", "ｶ": "カ", "ｶ\uff9e": "ガ"},
    "longer than a cluster": {"ab": "X", "\r\n": "\n", "क\u094d": "k", "각": "가"},
    "longer forms": {"㍿": "株式会社", "ﷺ": "صلى الله عليه وسلم", "½": "1⁄2"},
    "every byte": {chr(point): f"<{point:x}>" for point in range(0x80, 0x500, 7)},
    "inside of clusters": {"ष": "S", "©": "C", "®": "R", "ᄲ": "x", "각": "k", "\u05aa": "'"},
    "far apart": {"\u0301": "'", "\U0001f600": ":)", "\U0010ffff": "?"},
}
TEXTS = [
    *HARD_TEXTS,
    "ａ①ﬁ\u00a0x\u3000",
    "e e\u0301 e\u0301\u0302 ｶ ｶ\uff9e ｶｶ\uff9eﾞ",
    "abc ab\r\nb क\u094dष \u200bx\u00ad\ufeff",
    "㍿ﷺ½ 1½",
    "\u0301 a\u0301\U0001f600\U0001f3fd\U0010ffff",
    "क\u094dष\u0301 ष\u0301 क\u094dक\u094dष\u0301 क\u093e\u094dष\u0301",
    "©\u200d® ©\u200d®\u0301 ®\u0301 ❤\u200d©\ufe0f\u200d®\u0301 \U0001f469\u200d©\u0301",
    "ᄒᄲ\u05aa ᄲ\u05aa 각ᄲ\u05aa 가\u11a8\u0301 각\u0301 ᄒᄒᄒᄲ\u05aa \u1161\u05aa",
    "",
]


def expected_of(data, text):
    return normalizers.Precompiled(base64.b64decode(data)).normalize_str(text)


@pytest.mark.parametrize("name", FORMS)
def test_a_map_does_what_it_does_in_the_package(name):
    data = charsmap(FORMS[name])
    normalize = precompiled(data)
    for text in TEXTS:
        assert normalize(text)[0] == expected_of(data, text), text


@pytest.mark.parametrize("seed", range(12))
def test_random_maps(seed):
    rng = random.Random(seed)
    keys = {random_text(rng, rng.choice((1, 1, 1, 2, 3)))[:3] for _ in range(80)} - {""}
    forms = {key: rng.choice(("", "x", key, key + key, "→ y")) for key in keys}
    data = charsmap(forms)
    normalize = precompiled(data)
    for _ in range(20):
        words = [rng.choice(sorted(keys)) + random_text(rng, 3) for _ in range(40)]
        text = "".join(words)
        assert normalize(text)[0] == expected_of(data, text), text


def test_the_made_up_trie_is_one_that_the_package_reads():
    data = charsmap(FORMS["single"])
    assert expected_of(data, "ａ①ﬁ") == "a1fi"


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "ends early"),
        (struct.pack("<I", 400) + b"\0" * 8, "has 12 bytes and names a trie of 400"),
        (struct.pack("<I", 3) + b"\0" * 8, "has 12 bytes and names a trie of 3"),
    ],
)
def test_broken_maps_are_refused(data, sentence):
    with pytest.raises(TokenizerError, match=sentence):
        precompiled(base64.b64encode(data).decode())


def test_a_map_that_points_outside_changes_nothing():
    units = struct.pack("<I", (1 << 21) - 1 << 10)
    data = base64.b64encode(struct.pack("<I", 4) + units).decode()
    assert precompiled(data)("abc") == ("abc", True)
