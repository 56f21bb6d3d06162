"""Patterns without look-around match what those with it match, for Python's `re`."""

import random
import re

import pytest

from tonnage.server.generation.look_ahead import plain_pattern

DECIMAL = r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$"  # pydantic
EMAIL = (  # zod
    r"^(?!\.)(?!.*\.\.)([A-Za-z0-9_'+\-\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\-]*\.)+"
    r"[A-Za-z]{2,}$"
)
# A pattern, and characters of which texts are made to try it.
PATTERNS = {
    DECIMAL: "-+.019x",
    EMAIL: "aZ9.@-_'",
    r"^(?=.*[A-Z])(?=.*\d).{3,}$": "aA1 ",
    r"\bfoo\b": "fo -",
    r"^\w+\b": "a- ",
    r"\Bo": "fo ",
    r"(?!a)b|c(?=d)": "abcd",
    r"^(?:a(?!b)|c)$": "abc",
    r"^(?!.*(?:aa|bb))[ab]{2,6}$": "ab",
    r"a(?!$)": "ab",
    r"(?<name>a)(?=b)": "ab",
    r"^[^\s@](?!\d{2})[\s\S]*$": "a@ 1\n",
    r"^(?!x)(\u0061|\x62|[\d\-]){1,3}?$": "abx1-",
    r"(?!)|q": "q",
}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_same_texts_match(pattern):
    plain = plain_pattern(pattern)
    # Python writes the code points and the named groups of ECMA-262 in another way.
    ours = re.compile(re.sub(r"\\x\{([0-9a-f]+)\}", lambda one: f"\\U{int(one[1], 16):08x}", plain))
    oracle = re.compile(pattern.replace("(?<name>", "(?P<name>"), re.ASCII)
    chance = random.Random(1)
    verdicts = set()
    for _ in range(20_000):
        text = "".join(chance.choices(PATTERNS[pattern], k=chance.randrange(12)))
        if text.endswith("\n"):
            continue  # there Python's $ matches earlier
        expected = oracle.search(text) is not None
        assert (ours.fullmatch(text) is not None) == expected, text
        verdicts.add(expected)
    assert verdicts == {True, False}


def test_a_plain_pattern_stays_as_it_is():
    assert plain_pattern(r"^\d+(a|b)\u{61}$") == r"^\d+(a|b)\u{61}$"


@pytest.mark.parametrize(
    "pattern",
    [
        r"(a(?=b)|c)*",
        r"(?<=a)b",
        r"(?<!a)b",
        r"(a)\1(?!b)",
        r"(?!\p{L})a",
        r"a?\bb",
        r"a?^(?!b)",
        r"(?!a",
        r"(?!a))",
        r"(?![z-a])",
        r"(?!\u12)",
        r"*(?!a)",
        r"(?!a{1000})",
        r"^(?!\bfoo)\w+$",
        r".\bfoo",
        r"^(?!.*(a.{12}b))(.*c.{12}d)$",
        r"^(?!.*)$",
        "(?!" * 3000 + ")" * 3000,
    ],
)
def test_what_cannot_be_said_without_is_none(pattern):
    assert plain_pattern(pattern) is None
