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
        ({"eos_token_id": [-1, 7]}, {}, {7}),
        (None, {"eos_token_id": -1}, set()),
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


def listed(text, special=True, **more):
    return {**as_token(text), "single_word": False, "special": special, **more}


# Of each set of files: the added tokens by id, and which of them are special.
ADDED = {
    "a list of its own": (
        {"tokenizer_config": {"eos_token": "<b>", "added_tokens_decoder": {
            "300": listed("<a>"), "302": listed("<b>", False), "256": listed(END, False)}}},
        {300: "<a>", 301: "<b>"}, {300, 301}),
    "ids go by their order": (
        {"tokenizer_config": {"added_tokens_decoder": {
            "400": listed("<z>"), "380": listed("<y>", False)}}},
        {300: "<y>", 301: "<z>"}, {256, 301}),
    "names that are no tokens yet": (
        {"tokenizer_config": {"eos_token": "qz", "pad_token": "new"}},
        {300: "qz", 301: "new"}, {256, 300, 301}),
    "a name that is a word of the vocabulary": (
        {"tokenizer_config": {"pad_token": "ta"}}, {}, {256, 283}),
    "a token of the model": (
        {"tokenizer_config": {"extra_special_tokens": {"image_token": "<img>"}}},
        {300: "<img>"}, {256, 300}),
    "the old list": (
        {"tokenizer_config": {"eos_token": "<e>"}, "added_tokens": {"<f>": 301, "<e>": 300}},
        {300: "<e>", 301: "<f>"}, {256, 300}),
    "the old list and the old map": (
        {"added_tokens": {"<f>": 301, "<e>": 300}, "special_tokens_map": {
            "eos_token": "<e>", "additional_special_tokens": ["<g>"]}},
        {300: "<e>", 301: "<f>", 302: "<g>"}, {256, 300, 302}),
    "a list makes the old files void": (
        {"tokenizer_config": {"added_tokens_decoder": {}}, "added_tokens": {"<f>": 300},
         "special_tokens_map": {"eos_token": "<e>"}},
        {}, {256}),
}  # fmt: skip


@pytest.mark.parametrize("name", ADDED)
def test_tokens_that_stand_elsewhere_are_added(folder, name):
    files, added, special = ADDED[name]
    known = write(folder, **files)
    assert known.vocab_size == SIZE + len(added)
    for token_id, text in added.items():
        ids = known.encode(f"q{text} q", add_special=False, parse_special=True)
        assert ids.count(token_id) == 1
        assert known.decode([token_id], keep_control=True) == text
    found = [i for i in range(SIZE + len(added)) if known.is_control(i)]
    unused = {i for i in range(SIZE) if known.token_bytes(i).startswith(b"<|unused")}
    assert set(found) - unused == special


def test_a_list_says_more_of_a_token_than_tokenizer_json(folder):
    known = write(
        folder, tokenizer_config={"added_tokens_decoder": {"256": listed(END, rstrip=True)}}
    )
    assert known.encode(f"{END}  q", add_special=False, parse_special=True) == [256, ord("q")]
    with pytest.raises(TokenizerError, match="no object whose names are token ids"):
        write(folder, tokenizer_config={"added_tokens_decoder": [1]})
