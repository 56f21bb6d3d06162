"""Stop strings do not depend on how the text arrives."""

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from tonnage.text.stream import StopStrings

letters = st.text("ab", max_size=30)


def ended_text(text: str, stops: list[str]) -> str:
    for end in range(len(text) + 1):
        starts = [end - len(s) for s in stops if text[:end].endswith(s)]
        if starts:
            return text[: min(starts)]
    return text


@given(letters, st.lists(st.text("ab", min_size=1, max_size=5), max_size=3), st.data())
def test_any_cut_of_the_text_gives_the_same(text, stops, data):
    stream, shown, at = StopStrings(stops), "", 0
    while at < len(text):
        size = data.draw(st.integers(1, len(text) - at))
        shown += stream.push(text[at : at + size])
        at += size
        assert ended_text(text, stops).startswith(shown)
    assert shown + stream.flush() == ended_text(text, stops)


@given(
    st.lists(st.tuples(st.text("ab", max_size=6), st.booleans()), max_size=8),
    st.lists(st.text("ab", min_size=1, max_size=5), max_size=3),
)
def test_hidden_parts_are_searched_and_never_shown(parts, stops):
    stream = StopStrings(stops)
    shown = "".join(stream.push(text, hidden=hidden) for text, hidden in parts) + stream.flush()
    ended = ended_text("".join(text for text, _ in parts), stops)
    is_shown = [not hidden for text, hidden in parts for _ in text]
    assert shown == "".join(c for c, one in zip(ended, is_shown, strict=False) if one)


def short_texts(longest: int) -> list[str]:
    return ["".join(text) for size in range(1, longest + 1) for text in product("ab", repeat=size)]


def test_every_short_text_by_single_letters():
    for text, stop in product(short_texts(6), short_texts(4)):
        stream = StopStrings([stop])
        shown = [stream.push(letter) for letter in text]
        assert "".join(shown) + stream.flush() == ended_text(text, [stop]), (text, stop)
