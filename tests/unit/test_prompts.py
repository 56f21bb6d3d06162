"""Prompts in any form to token ids, and what their template has grown the process by."""

from dataclasses import replace

import pytest

from support.checkpoints import tiny_config, tiny_model, write_hf
from support.tiny_tokenizer import END
from tonnage.core.errors import ChatTemplateError, RequestError
from tonnage.engine.prompts import Prompts
from tonnage.text.folder_source import load_folder
from tonnage.text.tokenizer import Tokenizer

TEMPLATE = "{% for m in messages %}{{ raise_exception('no') if m.role == 'tool' }}[{{ m.content }}]"
HI = [{"role": "user", "content": "Hi"}]
REFUSED = [{"role": "tool", "content": "Hi"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_hf(tmp_path_factory.mktemp("m") / "hf", tiny_model(tiny_config("llama")))


@pytest.fixture
def tokenizer(folder) -> Tokenizer:
    core, special = load_folder(str(folder))
    return Tokenizer(core, replace(special, chat_template=TEMPLATE + "{% endfor %}"))


def test_every_form_becomes_ids(tokenizer):
    prompts = Prompts(tokenizer, 300, lambda: 0)
    ids = prompts.encode("Hi", raw=True)
    assert prompts.encode(ids, raw=False) == ids
    assert tokenizer.decode(prompts.encode("Hi", raw=False)) == "[Hi]"
    assert (
        prompts.encode(HI, raw=False) == prompts.encode_chat(HI) == prompts.encode("Hi", raw=False)
    )
    assert tokenizer.decode(prompts.encode_chat([{"role": "user", "content": END}])) == f"[{END}]"
    for wrong in ([], [300], [-1], [1 << 70]):
        with pytest.raises(RequestError, match=r"empty|not in the vocabulary of 300"):
            prompts.encode(wrong, raw=False)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        (b"Hi", "The prompt is of type bytes"),
        (None, "The prompt is of type NoneType"),
        (5, "The prompt is of type int"),
        ({"role": "user", "content": "Hi"}, "The prompt is of type dict"),
        ([1.5], "of types float"),
        (["a", "b"], "of types str"),
        ([5, HI[0]], "of types int, dict"),
    ],
)
def test_what_is_no_prompt_is_refused_with_what_is_one(tokenizer, prompt, words):
    with pytest.raises(RequestError, match=f"{words}; give a text, token ids, or messages"):
        Prompts(tokenizer, 300, lambda: 0).encode(prompt, raw=False)


def test_what_a_template_loads_is_noted_though_it_refuses(tokenizer):
    held = iter([100, 150, 150, 190])
    prompts = Prompts(tokenizer, 300, lambda: next(held))
    with pytest.raises(ChatTemplateError, match="no"):
        prompts.encode_chat(REFUSED)
    assert prompts.template_bytes == 50
    prompts.encode_chat(HI)  # it is compiled, so nothing is measured any more
    assert prompts.template_bytes == 50


def test_a_template_that_does_not_compile_is_measured_each_time(folder):
    core, special = load_folder(str(folder))
    held = iter([100, 150, 150, 160])
    broken = Tokenizer(core, replace(special, chat_template="{% if %}"))
    prompts = Prompts(broken, 300, lambda: next(held))
    for grown in (50, 60):
        with pytest.raises(ChatTemplateError, match="broken"):
            prompts.encode_chat(HI)
        assert prompts.template_bytes == grown


def test_a_conversation_with_tools_gets_their_template(folder):
    core, special = load_folder(str(folder))
    usual = "{% for m in messages %}[{{ m.content }}]{% endfor %}"
    for_tools = "<{{ tools[0].name }}>" + usual
    both = Tokenizer(core, replace(special, chat_template=usual, tool_template=for_tools))
    prompts = Prompts(both, 300, lambda: 0)
    tools = {"tools": [{"name": "f"}]}
    assert both.decode(prompts.encode_chat(HI)) == "[Hi]"
    assert both.decode(prompts.encode_chat(HI, tools)) == "<f>[Hi]"
    assert both.decode(prompts.encode_chat(HI, {"tools": None})) == "[Hi]"


def test_templates_read_special_tokens_by_their_names(folder):
    core, special = load_folder(str(folder))
    template = "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}{{ pad_token }}"
    names = {"eos_token": END, "pad_token": "#"}
    ends = special.end_ids | {5}
    known = Tokenizer(core, replace(special, chat_template=template, names=names, end_ids=ends))
    ids = Prompts(known, 300, lambda: 0).encode_chat(HI)
    assert known.decode(ids, keep_control=True) == f"Hi{END}#"
    assert known.token_id(END) in ids


def test_the_last_message_can_be_continued(folder):
    core, special = load_folder(str(folder))
    template = "{% for m in messages %}[{{ m.content }}]{% endfor %}{{ add_generation_prompt }}"
    tokenizer = Tokenizer(core, replace(special, chat_template=template))
    prompts = Prompts(tokenizer, 300, lambda: 0)
    told = [{"role": "assistant", "content": f"Hi {END}, "}]
    ids = prompts.encode_chat(told, continue_final_message=True)
    assert tokenizer.decode(ids) == f"[Hi {END}, "
    ids = prompts.encode_chat(told, add_generation_prompt=False)
    assert tokenizer.decode(ids) == f"[Hi {END}, ]False"
