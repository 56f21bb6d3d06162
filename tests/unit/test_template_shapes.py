"""Real shapes of chat templates: the text that Jinja gives, compiled as by transformers."""

import re

import pytest

from support.jinja_referee import compiled
from support.template_families import FAMILIES
from support.template_families_agents import AGENT_FAMILIES
from support.template_families_plain import PLAIN_FAMILIES
from support.template_features import FEATURES
from tonnage.core.errors import ChatTemplateError
from tonnage.text.template import ChatTemplate

PUBLISHED = FAMILIES | PLAIN_FAMILIES | AGENT_FAMILIES
SHAPES = PUBLISHED | FEATURES
SYSTEM = {"role": "system", "content": "Be kind /think"}
USER = {"role": "user", "content": ' Hi <b>"you"</b> & é 日 👍 \n'}
ANSWER = {"role": "assistant", "content": "<think>\nplan\n</think>\n\nHello"}
BYE = {"role": "user", "content": "Bye {{ x }}"}
ARGUMENTS = {"city": "Köln", "n": 3, "deep": [1, {"a": None}], "f": 1e-7, "yes": True}
CALL = {"id": "call12345", "type": "function", "function": {"name": "get", "arguments": ARGUMENTS}}
CALLING = {"role": "assistant", "content": "", "reasoning_content": "why", "tool_calls": [CALL]}
RESULT = {"role": "tool", "content": '{"t": 3}', "name": "get", "tool_call_id": "call12345"}
PARTS = {"role": "user", "content": [{"type": "text", "text": " a "}, {"type": "image"}]}
TOOL = {
    "type": "function",
    "function": {
        "name": "get",
        "description": "Gets é <x> & 'y'",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "City\nname", "enum": ["a", "b"]},
                "n": {"type": ["integer", "null"], "default": None},
                "deep": {"type": "array", "items": {"type": "object", "properties": {}}},
            },
            "required": ["city"],
        },
    },
}
CHATS = {
    "one message": ([USER], None),
    "all roles": ([SYSTEM, USER, ANSWER, BYE], None),
    "no system message": ([USER, ANSWER, BYE], None),
    "it ends with an answer": ([SYSTEM, USER, ANSWER], None),
    "two of a role": ([USER, BYE], None),
    "tools": ([SYSTEM, USER], [TOOL, TOOL]),
    "calls": ([SYSTEM, USER, CALLING, RESULT, RESULT, ANSWER, BYE], [TOOL]),
    "calls without an end": ([USER, CALLING, RESULT], [TOOL]),
    "parts": ([PARTS, ANSWER, PARTS], None),
}
NAMES = {"pad_token": "<pad>", "unk_token": "<unk>", "enable_thinking": False}


def test_there_are_many_shapes():
    assert len(PUBLISHED) >= 150
    assert len(PUBLISHED) == len(FAMILIES) + len(PLAIN_FAMILIES) + len(AGENT_FAMILIES)
    assert len(SHAPES) == len(PUBLISHED) + len(FEATURES)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_prompt_is_that_of_jinja(shape):
    referee, template = compiled(SHAPES[shape]), ours(SHAPES[shape])
    for name, (chat, tools) in CHATS.items():
        for opened in (True, False):
            given = [as_given(message, SHAPES[shape]) for message in chat]
            names = {**NAMES, "tools": tools}
            expected = referee(
                {**names, "messages": given, "documents": None, "add_generation_prompt": opened,
                 "bos_token": "<s>", "eos_token": "</s>"}
            )  # fmt: skip
            assert prompt_of(template, chat, opened=opened, names=names) == expected, name


def as_given(message, source):
    """As transformers gives a message: a copy, with reasoning by both of its names.

    A call without text has the content that its template asks for: none, or an empty text.
    """
    told = message.get("reasoning_content")
    given = {**message} if told is None else {"thinking": told, **message}
    if "tool_calls" in message and re.search(r"content('\])? is (not )?none", source):
        given["content"] = None
    return given


def ours(source):
    try:
        return ChatTemplate(source)
    except ChatTemplateError:
        return None


def prompt_of(template, chat, *, opened, names):
    if template is None:
        return None
    try:
        return template.render(
            chat, add_generation_prompt=opened, bos_token="<s>", eos_token="</s>", variables=names
        )
    except ChatTemplateError:
        return None
