"""The small files of a Hugging Face folder, with what transformers 5.24 reads in them.

Values are those of AutoTokenizer and GenerationConfig on the same files.
"""

import json

import pytest

from support.tiny_tokenizer import END, write_tokenizer_json
from tonnage.core.errors import TokenizerError
from tonnage.text.facts import facts_of_folder
from tonnage.text.tokenizer import Tokenizer

SIZE = 300  # tokens: END is 256, "<|unusedN|>" are the last


@pytest.fixture
def folder(tmp_path):
    write_tokenizer_json(tmp_path, SIZE)
    (tmp_path / "tokenizer_config.json").unlink()
    return tmp_path


def write(folder, **files):
    for name, value in files.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    return Tokenizer.from_folder(folder)


def as_token(text):
    return {"content": text, "lstrip": False, "normalized": False, "rstrip": False}


def test_names_come_from_the_old_map_where_there_is_no_list_of_tokens(folder):
    told = {"eos_token": as_token(END), "pad_token": "a", "unk_token": None}
    known = write(
        folder,
        tokenizer_config={"eos_token": "b", "bos_token": "c", "tokenizer_class": "X"},
        special_tokens_map=told,
    )
    assert known.names == {"eos_token": END, "pad_token": "a", "bos_token": "c"}
    assert known.eos_ids == {256}
    assert known.bos_id == known.token_id("c")


def test_a_list_of_tokens_makes_the_old_map_void(folder):
    known = write(
        folder,
        tokenizer_config={"eos_token": END, "added_tokens_decoder": {}},
        special_tokens_map={"eos_token": "b", "pad_token": "a"},
    )
    assert known.names == {"eos_token": END}


def test_tokens_of_the_model_have_their_own_names(folder):
    known = write(
        folder,
        tokenizer_config={"image_token": "a", "extra_special_tokens": {"boi_token": as_token("b")}},
    )
    assert known.names == {"image_token": "a", "boi_token": "b"}


@pytest.mark.parametrize(
    ("generation", "config", "ends"),
    [
        ({"eos_token_id": 7}, {"eos_token_id": 8}, {7}),
        ({"eos_token_id": [7, 9]}, {}, {7, 9}),
        ({}, {"eos_token_id": 8}, {8}),
        (None, {"eos_token_id": [8, 9]}, {8, 9}),
        (None, {"text_config": {"eos_token_id": 8}}, {8}),
        (None, {"eos_token_id": None}, set()),
    ],
)
def test_ends_come_from_the_settings(folder, generation, config, ends):
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    known = write(folder, config=config)
    assert known.eos_ids == ends | {256}  # END is well known
    assert known.names == {}


def test_the_beginning_may_stand_in_the_settings_alone(folder):
    assert write(folder, config={"bos_token_id": 7}).bos_id == 7
    assert write(folder, tokenizer_config={"bos_token": "a"}).bos_id != 7


def templates(folder):
    known = Tokenizer.from_folder(folder)
    facts = facts_of_folder(folder)
    assert facts.has_template == bool(known.chat_template or known.tool_template)
    return known.chat_template, known.tool_template


def test_several_templates_are_found_in_every_form(folder):
    assert templates(folder) == (None, None)
    listed = [{"name": "default", "template": "D"}, {"name": "tool_use", "template": "T"}]
    write(folder, tokenizer_config={"chat_template": listed})
    assert templates(folder) == ("D", "T")
    write(folder, tokenizer_config={"chat_template": {"default": "d", "tool_use": "t"}})
    assert templates(folder) == ("d", "t")
    write(folder, chat_template={"chat_template": "J"})
    assert templates(folder) == ("J", None)
    (folder / "chat_template.jinja").write_bytes(b"F\r\n")
    assert templates(folder) == ("F\n", None)
    more = folder / "additional_chat_templates"
    more.mkdir()
    (more / "tool_use.jinja").write_text("U")
    (more / "notes.txt").write_text("N")
    assert templates(folder) == ("F\n", "U")


def test_the_usual_template_is_looked_for_beside_a_file_for_tools(folder):
    more = folder / "additional_chat_templates"
    more.mkdir()
    (more / "tool_use.jinja").write_text("U")
    assert templates(folder) == (None, "U")
    write(folder, tokenizer_config={"chat_template": "D"})
    assert templates(folder) == ("D", "U")


def test_a_template_that_is_no_text_is_named(folder):
    with pytest.raises(TokenizerError, match="is not a text"):
        write(folder, tokenizer_config={"chat_template": 3})
