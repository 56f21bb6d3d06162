"""Calls in an answer are found, and text stays as it was written, wherever the answer is cut."""

import json
import time
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tonnage.server.generation.call_formats import TAGGED, TAUGHT, Call, formats_of
from tonnage.server.generation.tool_calls import ToolParser

NAMES = ("weather", "clock")
JSON_CALL = '{"name": "weather", "arguments": {"city": "Zürich"}}'
CALL = f"<tool_call>\n{JSON_CALL}\n</tool_call>"
SECOND = '<tool_call>{"name": "clock", "arguments": {}}</tool_call>'
ZURICH = ("weather", {"city": "Zürich"})
CLOCK = ("clock", {})

# What models write, by the format that their cards and templates declare.
TRANSCRIPTS = {
    # Hermes 2 and 3, Qwen 2.5 and 3
    CALL: [ZURICH],
    f"I look.\n{CALL}": ["I look.", ZURICH],
    f"{CALL}\n{SECOND}\n": [ZURICH, CLOCK],
    f"{CALL} done \n": [ZURICH, " done \n"],
    f"{CALL}\n\n": [ZURICH],
    f"<tool_call>\n{JSON_CALL}\n{JSON_CALL}\n</tool_call>": [ZURICH, ZURICH],
    f"<tool_call>[{JSON_CALL}, {JSON_CALL}]</tool_call>": [ZURICH, ZURICH],
    CALL.removesuffix("</tool_call>"): [ZURICH],  # the model ended before the tag
    f"<tool_call>{JSON_CALL}\n{CALL}": [ZURICH, ZURICH],  # the first tag is never closed
    f"<tool_call>{JSON_CALL} and so on </tool_call>": [ZURICH, " and so on </tool_call>"],
    '<tool_call>{"name": "clock"}</tool_call>': [CLOCK],
    '<tool_call>{"arguments": {"city": "Zürich"}, "name": "weather"}</tool_call>': [ZURICH],
    '<tool_call>{"name": "weather", "arguments": {"city": "</tool_call>"}}</tool_call> x': [
        ("weather", {"city": "</tool_call>"}), " x",
    ],
    r'<tool_call>{"name": "weather", "arguments": {"city": "\"}}</tool_call>\\"}}</tool_call>': [
        ("weather", {"city": '"}}</tool_call>\\'}),
    ],
    '<tool_call>{"name": "weather", "arguments": {"name": "rm", "a": [{"name": 1}]}}</tool_call>': [
        ("weather", {"name": "rm", "a": [{"name": 1}]}),
    ],
    f"Use <tool_call> tags.\n{CALL}": ["Use <tool_call> tags.", ZURICH],
    # Llama 3
    '{"name": "weather", "parameters": {"city": "Zürich"}}': [ZURICH],
    '{"type": "function", "name": "weather", "parameters": {"city": "Zürich"}}': [ZURICH],
    '<|python_tag|>{"name": "weather", "parameters": {"city": "Zürich"}}; '
    '{"name": "clock", "parameters": {}}': [ZURICH, CLOCK],
    '<function=weather>{"city": "Zürich"}</function>': [ZURICH],
    # Mistral, until v7 and since v11
    f'[{JSON_CALL}, {{"name": "clock", "arguments": {{}}}}]': [ZURICH, CLOCK],
    f'[TOOL_CALLS][{JSON_CALL}, {{"name": "clock", "arguments": {{}}, "id": "a1"}}]': [
        ZURICH, CLOCK,
    ],
    'Wait.[TOOL_CALLS]weather[ARGS]{"city": "Zürich"}[TOOL_CALLS]clock[ARGS]{}': [
        "Wait.", ZURICH, CLOCK,
    ],
    # Phi 4 mini, Granite
    f"<|tool_call|>[{JSON_CALL}]<|/tool_call|>": [ZURICH],
    f"functools[{JSON_CALL}]": [ZURICH],
    # Qwen 2.5 Coder
    f"```json\n{JSON_CALL}\n```": [ZURICH],
    f"I look:\n```json\n{JSON_CALL}\n{JSON_CALL}\n```\n": ["I look:", ZURICH, ZURICH],
    f"```\n{JSON_CALL}\n```": [ZURICH],
    f"```json\n{JSON_CALL}": [ZURICH],
    # OpenAI's own objects
    '{"type": "function", "function": {"name": "clock", "arguments": "{}"}}': [CLOCK],
}  # fmt: skip
# What looks like a call and is none: it stays as it was written.
TEXTS = [
    "Hello <b>you</b>",
    "Use <tool_call> tags.",
    "See:\n\n<tool_call>nothing</tool_call>\n\nEnd",
    'a <tool_call>\n{"name": "zz", "arguments": {}}\n</tool_call> b',
    "<tool_call>" + "[" * 5000,
    "a <tool_cal",
    "a \n<tool_call>  ",
    '{"name": "rm", "arguments": {}}',
    '{"name": ["x"]}',
    '{"name": "clock"}',
    '{"name": "clock", "age": 2}',
    '{"name": "clock", "arguments": {}, "age": 2}',
    '{"name": "clock", "arguments": {}, "parameters": {}}',
    '{"name": "clock", "arguments": 5}',
    '{"name": "clock", "arguments": {}} is what I would write.',
    '{"type": "tool", "name": "clock", "arguments": {}}',
    '[{"name": "clock", "arguments": {}}, {"name": "clock", "city": "x"}]',
    '{"a": 1}', "{}", "[]", "[1, 2", "[1] As the first source says,\n", "{ no JSON }",
    "  \n", "\n {",
    "```json\n{\"a\": 1}\n```\n",
    f"```json\n{JSON_CALL}\nand more\n```",
    "```python\nprint()\n```\n\nThat is all. ```",
    CALL[:40],
    "<function=rm>{}</function>", "[TOOL_CALLS]clock[", "functools are fun",
    # What Python reads and JSON cannot say.
    *(
        text
        for value in ("NaN", "-Infinity", "1e999", r'"\ud800"', r'{"\udc00": 1}')
        for text in (
            f'{{"name": "clock", "arguments": {{"x": {value}}}}}',
            f'<tool_call>{{"name": "clock", "arguments": {{"x": {value}}}}}</tool_call>',
        )
    ),
]  # fmt: skip
# What models write as Python does, where their templates teach it.
PYTHON = {
    # Llama 3.2 and 4
    '[weather(city="Zürich")]': [ZURICH],
    "[weather(city='Zürich'), clock()]": [ZURICH, CLOCK],
    ' [weather(city="Zürich"),\n clock() ]\n': [ZURICH, CLOCK],
    '[weather(city="a\\"b)]\\\\", days=-3, near=[1.5, (None, True)], at={"x": [False, null]})]': [
        ("weather", {
            "city": 'a"b)]\\', "days": -3, "near": [1.5, [None, True]], "at": {"x": [False, None]},
        }),
    ],
    "[clock()] and so on": ["[clock()] and so on"],
    "[clock(), rm()]": ["[clock(), rm()]"],
    "[clock(5)]": ["[clock(5)]"],
    "[clock(x=f())]": ["[clock(x=f())]"],
    "[clock(**x)]": ["[clock(**x)]"],
    "[clock(x=1e999)]": ["[clock(x=1e999)]"],
    "[clock]": ["[clock]"], "[clock(": ["[clock("], "[": ["["], "[]": ["[]"],
    "[1] says": ["[1] says"], "[clock(a=1)}": ["[clock(a=1)}"],
    "[clockwise it goes]": ["[clockwise it goes]"],
    f"[{JSON_CALL}]": [ZURICH],
    CALL: [ZURICH],
    "<|python_start|>[clock()]<|python_end|>": [CLOCK],
    # LFM 2
    'I look.<|tool_call_start|>[weather(city="Zürich")]<|tool_call_end|> Soon.': [
        "I look.", ZURICH, " Soon.",
    ],
    # Gemma
    '```tool_code\nweather(city="Zürich")\n```': [ZURICH],
    '```tool_code\nweather(city="Zürich")\nclock()\n```\n': [ZURICH, CLOCK],
    'I look:\n```tool_code\nprint(default_api.weather(city="Zürich"))\n```': ["I look:", ZURICH],
    '```tool_code\nweather(city="```")\n```': [("weather", {"city": "```"})],
    "```tool_code\nclock()": [CLOCK],
    "```tool_code\nrm()\n```": ["```tool_code\nrm()\n```"],
    "```tool_code\nprint(5)\n```": ["```tool_code\nprint(5)\n```"],
    "```tool_code\nx = clock()\n```": ["```tool_code\nx = clock()\n```"],
    "```tool_code\n```": ["```tool_code\n```"],
}  # fmt: skip
TAUGHT_FORMATS = (*TAGGED, *TAUGHT.values())
EVERY = {**TRANSCRIPTS, **{text: [text] for text in TEXTS}}


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


def parsed(deltas: list[str], **how: Any) -> list[object]:
    parser = ToolParser(NAMES, **how)
    return told([part for delta in deltas for part in parser.push(delta)] + parser.flush())


@pytest.mark.parametrize("text", EVERY, ids=range(len(EVERY)))
def test_calls_are_told_from_text(text):
    assert parsed([text]) == EVERY[text]


@pytest.mark.parametrize("text", [t for t in EVERY if len(t) < 300])
def test_it_does_not_matter_where_an_answer_is_cut(text):
    for at in range(len(text) + 1):
        assert parsed([text[:at], text[at:]]) == EVERY[text], text[:at]
    assert parsed(list(text)) == EVERY[text]


@pytest.mark.parametrize("text", [*PYTHON, *(t for t in EVERY if len(t) < 300)])
def test_calls_in_python_are_told_from_text_wherever_it_is_cut(text):
    expected = {**EVERY, **PYTHON}[text]
    for at in range(len(text) + 1):
        assert parsed([text[:at], text[at:]], formats=TAUGHT_FORMATS) == expected, text[:at]
    assert parsed(list(text), formats=TAUGHT_FORMATS) == expected


@pytest.mark.parametrize("text", ["[clock()]", "```tool_code\nclock()\n```"])
def test_python_is_text_where_no_template_teaches_it(text):
    assert parsed(list(text)) == [text]


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ messages }} put it as [func_name1(params_name1=params_value1...)]", "[clock()]"),
        ("{{ messages }} ```tool_code", "```tool_code\nclock()\n```"),
        ("<|tool_call_start|>", "<|tool_call_start|>[clock()]<|tool_call_end|>"),
    ],
)
def test_the_template_chooses_the_formats(template, text):
    class Taught:
        chat_template, tool_template = template, None

    assert parsed([text], formats=formats_of(Taught())) == [CLOCK]


@pytest.mark.parametrize("begin", ["[see", "[1]", "```tool_code\nx = ", "[clock] "])
def test_text_that_looked_like_python_comes_as_it_is_made(begin):
    parser = ToolParser(NAMES, formats=TAUGHT_FORMATS)
    parser.push(begin)
    assert parser.push("and so on, ")
    assert parser.push("for long.")


@settings(deadline=None)
@given(
    parts=st.lists(
        st.sampled_from([*(t for t in [*EVERY, *PYTHON] if len(t) < 200), "\n", "{", "<", "`", "["])
    ),
    cuts=st.lists(st.integers(0, 400), max_size=8),
    formats=st.sampled_from([TAGGED, TAUGHT_FORMATS]),
)
def test_nor_where_several_are_cut(parts, cuts, formats):
    text = "".join(parts)
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in pairwise(edges)]
    assert parsed(pieces, formats=formats) == parsed([text], formats=formats)


def test_an_answer_without_calls_is_nothing_but_its_text():
    text = " \n".join(TEXTS)
    assert parsed(list(text)) == [text]


@pytest.mark.parametrize("begin", ["[1]", '{"a": ', '[{"a": ', "{'", "```python\n", "<tool_call>x"])
def test_text_that_looked_like_a_call_comes_as_it_is_made(begin):
    parser = ToolParser(NAMES)
    parser.push(begin)
    assert parser.push("and so on, ")
    assert parser.push("for long.")


@pytest.mark.parametrize("end", range(1, len(JSON_CALL)))
def test_half_a_call_is_no_call(end):
    half = JSON_CALL[:end]
    for text in (f"<tool_call>\n{half}", half, f"```json\n{half}"):
        assert parsed([text]) == [text]


def test_where_a_form_binds_the_text_json_alone_is_the_text():
    assert parsed([JSON_CALL], with_bare=False) == [JSON_CALL]
    assert parsed([CALL], with_bare=False) == [ZURICH]


@pytest.mark.parametrize("text", [t for t, parts in TRANSCRIPTS.items() if len(parts) > 1])
def test_where_one_call_is_wanted_the_others_are_left_out(text):
    expected, has_call = [], False
    for part in TRANSCRIPTS[text]:
        if isinstance(part, str) or not has_call:
            expected.append(part)
        has_call = has_call or not isinstance(part, str)
    assert parsed(list(text), is_single=True) == expected


def test_one_call_is_complete_as_soon_as_it_is_there():
    parser = ToolParser(NAMES, is_single=True)
    assert not parser.is_complete
    parser.push(CALL)
    assert parser.is_complete


def test_without_tools_everything_is_text_at_once():
    parser = ToolParser(())
    assert parser.push(CALL) == [CALL]
    assert parser.flush() == []


def test_each_call_has_a_name_of_its_own():
    parser = ToolParser(NAMES)
    calls = parser.push(CALL + SECOND)
    assert len({call.call_id for call in calls if isinstance(call, Call)}) == 2


@pytest.mark.parametrize(
    "part",
    [
        '<tool_call>[{"name":"clock","arguments":{"a":"',
        "[",
        "<tool_call>",
        CALL,
        "``` ",
        "[clock(x='",
    ],
)
def test_a_long_answer_takes_time_in_proportion(part):
    def seconds(num: int) -> float:
        parser = ToolParser(NAMES, formats=TAUGHT_FORMATS)
        begun = time.process_time()
        for _ in range(num):
            parser.push(part)
        parser.flush()
        return time.process_time() - begun

    assert seconds(4000) < 16 * max(seconds(1000), 0.01)  # four times as long, and noise
