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
