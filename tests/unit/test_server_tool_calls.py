"""Calls in an answer are found however it is cut into pieces."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tonnage.server.generation.tool_calls import Call, ToolParser

NAMES = ("weather", "clock")
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Zürich"}}\n</tool_call>'
SECOND = '<tool_call>{"name": "clock", "arguments": {}}</tool_call>'
ZURICH = ("weather", {"city": "Zürich"})
CLOCK = ("clock", {})

EXAMPLES = {
    "Hello <b>you</b>": ["Hello <b>you</b>"],
    CALL: [ZURICH],
    f"I look.\n{CALL}": ["I look.", ZURICH],
    f"{CALL}\n{SECOND}\n": [ZURICH, CLOCK],
    f"{CALL} done": [ZURICH, " done"],
    f"{CALL}\n\n": [ZURICH],
    CALL.removesuffix("</tool_call>"): [ZURICH],  # the model ended before the tag
    '{"name": "weather", "parameters": {"city": "Zürich"}}': [ZURICH],  # Llama
    '[{"name": "weather", "arguments": {"city": "Zürich"}}, {"name": "clock"}]': [ZURICH, CLOCK],
    '{"type": "function", "function": {"name": "clock", "arguments": "{}"}}': [CLOCK],
    '{"name": "rm", "arguments": {}}': ['{"name": "rm", "arguments": {}}'],  # no such tool
    '{"name": ["x"]}': ['{"name": ["x"]}'],
    '{"a": 1}': ['{"a": 1}'],
    "[1, 2": ["[1, 2"],
    "<tool_call>nonsense</tool_call> x": ["<tool_call>nonsense</tool_call>", " x"],
    "<tool_call>" + "[" * 5000: ["<tool_call>" + "[" * 5000],
    "a <tool_cal": ["a <tool_cal"],
    # What Python reads and JSON cannot say.
    **{
        text: [text]
        for value in ("NaN", "-Infinity", "1e999", r'"\ud800"', r'{"\udc00": 1}')
        for text in (
            f'{{"name": "clock", "arguments": {{"x": {value}}}}}',
            f'<tool_call>{{"name": "clock", "arguments": {{"x": {value}}}}}</tool_call>',
        )
    },
    "  \n": ["  \n"],
    "": [],
}


def told(parts: list[str | Call]) -> list[object]:
    """Return calls as (name, arguments) and texts joined."""
    joined: list[object] = []
    for part in parts:
        if isinstance(part, Call):
            joined.append((part.name, json.loads(part.arguments)))
        elif joined and isinstance(joined[-1], str):
            joined[-1] += part
        else:
            joined.append(part)
    return joined


def parsed(pieces: list[str], names: tuple[str, ...] = NAMES) -> list[object]:
    parser = ToolParser(names)
    return told([part for piece in pieces for part in parser.push(piece)] + parser.flush())


@pytest.mark.parametrize("text", EXAMPLES, ids=range(len(EXAMPLES)))
def test_calls_are_told_from_text(text):
    expected = EXAMPLES[text]
    if all(isinstance(part, str) for part in expected):
        assert "".join(parsed([text])) == "".join(expected)  # type: ignore[arg-type]
    else:
        assert parsed([text]) == expected


@given(
    text=st.sampled_from([t for t in EXAMPLES if len(t) < 200]),
    cuts=st.lists(st.integers(0, 90), max_size=8),
)
def test_the_pieces_do_not_matter(text, cuts):
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in pairwise(edges)]
    whole = parsed([text])
    cut = parsed(pieces)
    assert [p for p in cut if not isinstance(p, str)] == [
        p for p in whole if not isinstance(p, str)
    ]
    assert "".join(p.strip() for p in cut if isinstance(p, str)) == "".join(
        p.strip() for p in whole if isinstance(p, str)
    )


def test_without_tools_everything_is_text_at_once():
    parser = ToolParser(())
    assert parser.push(CALL) == [CALL]
    assert parser.flush() == []


def test_each_call_has_a_name_of_its_own():
    parser = ToolParser(NAMES)
    calls = parser.push(CALL + SECOND)
    assert len({call.call_id for call in calls if isinstance(call, Call)}) == 2
