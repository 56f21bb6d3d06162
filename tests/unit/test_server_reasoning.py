"""Thoughts are told from text however a completion is cut into deltas."""

import pytest

from tonnage.server.generation.reasoning import (
    ReasoningParser,
    ReasoningStart,
    Thought,
    reasoning_start,
)


def split(start: ReasoningStart, deltas: list[str]) -> tuple[str, str]:
    """Return what was thought and what was said."""
    parser = ReasoningParser(start)
    parts = [part for delta in deltas for part in parser.push(delta)] + parser.flush()
    thought = "".join(part.text for part in parts if isinstance(part, Thought))
    said = "".join(part for part in parts if isinstance(part, str))
    return thought, said


CASES: list[tuple[ReasoningStart, str, str, str]] = [
    ("may", "<think>\nFirst. \n\nThen.\n</think>\n\nIt is 4.\n", "First. \n\nThen.", "It is 4.\n"),
    ("may", "  <think></think>Yes", "", "Yes"),
    ("may", "No tags at all.", "", "No tags at all."),
    ("may", " <thing> is <think>no</think>", "", " <thing> is <think>no</think>"),
    ("may", "<think>cut in the mid", "cut in the mid", ""),
    ("may", "<think>a </thin b</think>c", "a </thin b", "c"),
    ("may", "<think>a</think>b</think>c", "a", "b</think>c"),
    ("may", "<thi", "", "<thi"),
    ("may", "", "", ""),
    ("begun", "\nSo.\n</think>\n\nDone.", "So.", "Done."),
    ("begun", "<think>\nSo.</think> Done.", "So.", "Done."),
    ("begun", "never closed", "never closed", ""),
    ("begun", "</think>at once", "", "at once"),
    ("never", "<think>x</think>y", "", "<think>x</think>y"),
]


@pytest.mark.parametrize(("start", "text", "thought", "said"), CASES)
def test_cut_anywhere_the_parts_are_the_same(
    start: ReasoningStart, text: str, thought: str, said: str
) -> None:
    assert split(start, [text]) == (thought, said)
    assert split(start, list(text)) == (thought, said)
    for at in range(len(text)):
        assert split(start, [text[:at], text[at:]]) == (thought, said)


@pytest.mark.parametrize(
    ("template", "end", "start"),
    [
        (None, "", "never"),
        ("{{ messages }}", "<think>", "never"),
        ("...split('</think>')...", "<|im_start|>assistant\n", "may"),
        ("...split('</think>')...", "<|Assistant|><think>\n", "begun"),
        ("...split('</think>')...", "<think>\n\n</think>\n\n", "may"),
    ],
)
def test_where_a_completion_begins(template: str | None, end: str, start: str) -> None:
    assert reasoning_start(template, end) == start
