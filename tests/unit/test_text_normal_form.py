"""Normal forms of long texts are Python's own, in a time that grows with the length alone."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.yardstick import cpu_seconds
from tonnage.text.normal_form import _SHORT_CHARS, _normalize_part, normalize

FORMS = ("NFC", "NFD", "NFKC", "NFKD")
ODD = [
    char
    for char in map(chr, [*range(0xD800), *range(0xE000, 0x110000)])
    if unicodedata.combining(char) or unicodedata.decomposition(char)
]


@given(
    st.lists(st.sampled_from([*ODD, *"aeiouAEK가각힣 "]), min_size=_SHORT_CHARS + 1, max_size=600),
    st.sampled_from(FORMS),
)
def test_a_long_text_has_pythons_normal_form(chars, form):
    text = "".join(chars)
    assert _normalize_part(text, form) == unicodedata.normalize(form, text)


# Marks in a bad order, and letters that become such marks.
@pytest.mark.parametrize(
    "pattern", ["\u0301\u0316", "\u0f73", "\u0344\u0316", "\u0f71\u0f72\u0f73"]
)
@pytest.mark.parametrize("form", FORMS)
def test_marks_in_a_bad_order_take_no_longer_than_others(pattern, form):
    short, long = ("a" + pattern * count for count in (5_000, 50_000))
    once = cpu_seconds(lambda: normalize(short, form))
    # Ten times as long takes ten times as much; moving each mark past all others, a hundred times.
    assert cpu_seconds(lambda: normalize(long, form), tries=3) < 40 * once
