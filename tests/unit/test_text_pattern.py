"""The native pattern language against the regular expressions of the reference tokenizers."""

import random
from functools import cache

import pytest
from tokenizers import Regex
from tokenizers.pre_tokenizers import Split

from text_support import HARD_TEXTS, random_text
from tonnage._native import pattern_pieces
from tonnage.core.errors import TokenizerError
from tonnage.text.pretokenizers import KINDS

PROPERTIES = [
    rf"\p{{{name}}}" for name in ("L", "M", "N", "P", "S", "Lu", "Ll", "Lt", "Lm", "Lo", "Nd", "Zs")
]


def matches(pattern: str, text: str) -> list[str]:
    data = text.encode()
    return [data[a:b].decode() for a, b in pattern_pieces(pattern, data)]


def referee_matches(pattern: str, text: str) -> list[str]:
    split = Split(Regex(pattern), "removed", invert=True)
    return [piece for piece, _ in split.pre_tokenize_str(text)]


@cache
def all_characters() -> list[str]:
    points = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    return ["".join(points[i : i + 20000]) for i in range(0, len(points), 20000)]


@pytest.mark.parametrize("pattern", [*PROPERTIES, r"\s", r"\S", r"[^\s\p{L}\p{N}]", r"(?i:[a-z])"])
def test_class_has_the_same_characters(pattern):
    for text in all_characters():
        assert "".join(matches(pattern, text)) == "".join(referee_matches(pattern, text))


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_kind_splits_like_the_reference(kind):
    rng = random.Random(kind)
    texts = [*HARD_TEXTS, *(random_text(rng, 200) for _ in range(100))]
    for pattern in KINDS[kind].patterns:
        for text in texts:
            assert matches(pattern, text) == referee_matches(pattern, text), text


@pytest.mark.parametrize(
    "pattern",
    [
        "a++b|a+",
        "(?:ab|a)?b",
        "x{2}",
        "x{2,}y?",
        "[^ ]*+ |[^ ]++",
        r"\x{4e00}+|\u4e01",
        "a(?=b)|(?!a)b+",
        "(?<=a)b+|(?<![ab])x",
        ".b.",
        "^a|b$",
        r"\W+|\w",
    ],
)
def test_operators_match_like_the_reference(pattern):
    rng = random.Random(5)
    for _ in range(300):
        text = "".join(rng.choice("abxy 一丁") for _ in range(rng.randrange(12)))
        assert matches(pattern, text) == referee_matches(pattern, text), text


@pytest.mark.parametrize(
    ("pattern", "named"),
    [
        ("(?>a)b", "group"),
        ("(a)*", "repeated group"),
        (r"\p{Greek}", "Greek"),
        ("a+?", "quantifier"),
        ("[[:alpha:]]", "nested"),
        ("(a", "unclosed"),
        ("a)", "')'"),
        ("[a", "unclosed"),
        (r"\b", "escape"),
        ("a{3,1}", "repetition"),
        ("[b-a]", "backwards"),
        ("(?!ab)", "a look at"),
        ("\\", "end"),
        ("a|" * 5000, "exceeds"),
        ("(" * 40 + "a" + ")" * 40, "nesting"),
    ],
)
def test_anything_else_is_an_error_that_names_it(pattern, named):
    with pytest.raises(
        TokenizerError, match=named.replace("(", r"\(").replace(")", r"\)").replace(".", r"\.")
    ):
        pattern_pieces(pattern, b"abc")


@pytest.mark.parametrize("pattern", ["a*b", "a*a*a*a*b", "a++b"])
def test_backtracking_is_bounded(pattern):
    with pytest.raises(TokenizerError, match="backtracks"):
        pattern_pieces(pattern, b"a" * 200_000)


@pytest.mark.parametrize("text", ["a", " ", "\n", "1", "é", "中", ".", "A", "\u0301", " \n"])
def test_runs_of_one_character_cost_linear_steps(text):
    for kind in KINDS.values():
        for pattern in kind.patterns:
            pattern_pieces(pattern, text.encode() * 50_000)
