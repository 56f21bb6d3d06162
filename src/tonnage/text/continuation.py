"""Prompts that end inside of the last message, so that a completion continues its text.

The end of the text is marked before the template runs, and the prompt is cut at the mark, as
`apply_chat_template(continue_final_message=True)` of transformers does.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from tonnage.core.errors import ChatTemplateError
from tonnage.text.tokenizer import SENTINEL

# Two in a row stand in no escaped text. The space shows whether the template strips texts.
_MARK = SENTINEL * 2
_SPACED_MARK = _MARK + " "


def marked(messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the messages with a mark behind the text of the last one.

    Of several parts the last that has a text is marked. Raises ChatTemplateError for a message that
    calls tools or has no text.
    """
    *before, last = messages
    if last.get("tool_calls"):
        raise ChatTemplateError(
            "The last message calls tools, and a call cannot be continued; send their results."
        )
    content = last["content"]
    if isinstance(content, str):
        return [*before, {**last, "content": content + _SPACED_MARK}]
    index = _last_text(content)
    part = {**content[index], "text": content[index]["text"] + _SPACED_MARK}
    return [*before, {**last, "content": [*content[:index], part, *content[index + 1 :]]}]


def cut_at_mark(prompt: str, last: Mapping[str, Any]) -> str:
    """Return what stands before the mark in a prompt whose last message is `last`.

    Where the template strips texts, the white space at the end of the text is left out, too. Raises
    ChatTemplateError when there is no mark.
    """
    at = prompt.rfind(_MARK)
    if at < 0:
        raise ChatTemplateError(
            "The chat template leaves out the end of the last message, so it cannot be continued; "
            "end the conversation with a message of the user."
        )
    if prompt.startswith(_SPACED_MARK, at):
        return prompt[:at]
    content = last["content"]
    text = content if isinstance(content, str) else content[_last_text(content)]["text"]
    return prompt[: at - (len(text) - len(text.rstrip()))]


def _last_text(content: Any) -> int:
    """Return which part of a content has the last text."""
    parts = content if isinstance(content, list | tuple) else []
    for index in reversed(range(len(parts))):
        if isinstance(parts[index], Mapping) and isinstance(parts[index].get("text"), str):
            return index
    raise ChatTemplateError("The last message has no text, so there is nothing to continue.")
