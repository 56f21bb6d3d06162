"""What messages become before and after the template runs, as transformers 5.24 does it."""

import pytest

from tonnage.core.errors import ChatTemplateError
from tonnage.text.template import ChatTemplate

PLAIN = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}<end>{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
TRIMMED = PLAIN.replace("m.content", "m.content | trim")
TWICE = "{{ messages[-1].content }}|" + PLAIN


def continued(template, content, **last):
    chat = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": content, **last},
    ]
    return ChatTemplate(template).render(chat, continue_final_message=True)


@pytest.mark.parametrize(
    ("template", "content", "expected"),
    [
        (PLAIN, "Sure, ", "[user]hi<end>[assistant]Sure, "),
        (PLAIN, "", "[user]hi<end>[assistant]"),
        (PLAIN, "hi", "[user]hi<end>[assistant]hi"),
        (TRIMMED, " Sure, ", "[user]hi<end>[assistant]Sure,"),
        (TRIMMED, "Sure", "[user]hi<end>[assistant]Sure"),
    ],
)
def test_the_prompt_ends_where_the_last_text_does(template, content, expected):
    assert continued(template, content) == expected


def test_of_several_parts_the_last_text_is_continued():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "Sure, "}, {"type": "image"}]
    template = PLAIN.replace("m.content", "m.content if m.content is string else m.content[1].text")
    assert continued(template, parts) == "[user]hi<end>[assistant]Sure, "


def test_of_a_text_that_is_shown_twice_the_last_counts():
    assert continued(TWICE, "Sure, ").endswith("[user]hi<end>[assistant]Sure, ")


@pytest.mark.parametrize(
    ("template", "content", "more", "words"),
    [
        (PLAIN.replace("m.content", "m.content[:2]"), "Sure, ", {}, "leaves out the end"),
        (PLAIN, [{"type": "image"}], {}, "no text"),
        (PLAIN, "x", {"tool_calls": [{"function": {"name": "f"}}]}, "calls tools"),
    ],
)
def test_what_cannot_be_continued_is_a_sentence(template, content, more, words):
    with pytest.raises(ChatTemplateError, match=words):
        continued(template, content, **more)


@pytest.mark.parametrize("name", ["reasoning_content", "thinking", "reasoning"])
def test_reasoning_reaches_the_template_by_its_usual_name_and_by_that_of_gpt_oss(name):
    template = "{% for m in messages %}{{ m.reasoning_content }}|{{ m.thinking }};{% endfor %}"
    chat = [
        {"role": "user", "content": "hi", "reasoning_content": None},
        {"role": "assistant", "content": "x", name: "why"},
    ]
    assert ChatTemplate(template).render(chat) == "|;why|why;"


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{% for m in messages %}{{ m.content }}|{% endfor %}", "|x|"),
        ("{% for m in messages %}{{ 'call' if m['content'] is none else m.content }}|{% endfor %}",
         "call|x|"),
        ("{% for m in messages %}{{ m.content if m.content is not none }}|{% endfor %}", "|x|"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("content", [{}, {"content": None}, {"content": ""}])
def test_a_call_without_words_is_what_the_template_asks_for(template, expected, content):
    # llama.cpp gives null to templates that read it and a text to the others.
    call = {"role": "assistant", "tool_calls": [{"function": {"name": "f"}}], **content}
    assert ChatTemplate(template).render([call, {"role": "user", "content": "x"}]) == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ('{"c": "x", "n": [1]}', '{"c": "x", "n": [1]}'),
        ({"c": "x"}, '{"c": "x"}'),
        ("{}", "{}"),
        ("no JSON", '"no JSON"'),
        ("[1]", '"[1]"'),
        ("[" * 100_000, f'"{"[" * 100_000}"'),
    ],
)
def test_arguments_of_calls_are_objects_whichever_form_they_came_in(arguments, expected):
    # As llama.cpp's and vLLM's servers hand OpenAI's text to templates.
    template = (
        "{% for c in messages[0].tool_calls %}{{ c.function.arguments | tojson }}{% endfor %}"
    )
    call = {"function": {"name": "f", "arguments": arguments}}
    prompt = ChatTemplate(template).render([{"role": "assistant", "tool_calls": [call]}])
    assert prompt == expected
