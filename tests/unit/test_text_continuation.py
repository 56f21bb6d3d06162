"""Prompts that end inside of the last message: where the mark goes, and where prompts are cut."""

from typing import Any

import pytest

from tonnage.core.errors import ChatTemplateError
from tonnage.text.continuation import cut_at_mark, marked

USER = {"role": "user", "content": "Hi"}


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def rendered(messages: Any, *, strips: bool = False) -> str:
    """Render as a template does that writes all texts, with an end behind each message."""
    parts = []
    for message in messages:
        content = message["content"]
        texts = [content] if isinstance(content, str) else [one.get("text", "") for one in content]
        parts.append(f"<{message['role']}>{''.join(texts).strip() if strips else ''.join(texts)}|")
    return "".join(parts)


@pytest.mark.parametrize("strips", [False, True])
@pytest.mark.parametrize("end", ["", " ", "\n \t"])
@pytest.mark.parametrize(
    "content",
    ["I am{}", [text("I am{}")], [text("a"), text("I am{}")], [text("I am{}"), {"type": "image"}]],
    ids=str,
)
def test_the_prompt_ends_where_the_last_text_does(content: Any, end: str, strips: bool) -> None:
    if isinstance(content, str):
        content = content.format(end)
    else:
        content = [
            {**one, "text": one["text"].format(end)} if "text" in one else one for one in content
        ]
    last = {"role": "assistant", "content": content}
    before = rendered([USER, last])[:-1]
    prompt = rendered(marked([USER, last]), strips=strips)
    assert cut_at_mark(prompt, last) == (before.rstrip() if strips else before)


def test_only_the_last_message_is_changed_and_nothing_in_place() -> None:
    last = {"role": "assistant", "content": [text("a"), text("b"), {"type": "image"}], "name": "x"}
    messages = [USER, USER, last]
    found = marked(messages)
    assert found[:2] == [USER, USER]
    assert {**found[2], "content": None} == {**last, "content": None}
    first, second, third = found[2]["content"]
    assert (first, third) == (text("a"), {"type": "image"})
    assert second["type"] == "text"
    assert second["text"].startswith("b")
    assert second["text"].endswith(" ")
    assert last["content"] == [text("a"), text("b"), {"type": "image"}]


def test_a_mark_that_stands_twice_cuts_at_the_later_one() -> None:
    """Templates may repeat texts, such as in a summary before the turns."""
    last = {"role": "assistant", "content": "so"}
    prompt = rendered(marked([USER, last]))
    assert cut_at_mark(prompt + prompt, last) == prompt + prompt.split("so")[0] + "so"


@pytest.mark.parametrize("content", [None, 5, [], [{"type": "image"}], [{"text": 3}], ["text"]])
def test_a_message_without_text_cannot_be_continued(content: Any) -> None:
    with pytest.raises(ChatTemplateError, match=r"^The last message has no text, so there is"):
        marked([USER, {"role": "assistant", "content": content}])


def test_a_call_cannot_be_continued() -> None:
    last = {"role": "assistant", "content": "a", "tool_calls": [{"function": {"name": "f"}}]}
    with pytest.raises(ChatTemplateError, match=r"^The last message calls tools, and a call"):
        marked([USER, last])
    assert marked([USER, {**last, "tool_calls": []}])


def test_a_template_that_leaves_the_text_out_is_named() -> None:
    with pytest.raises(ChatTemplateError, match=r"^The chat template leaves out the end of the"):
        cut_at_mark("<user>Hi|<assistant>", {"role": "assistant", "content": "a"})
