"""What a GGUF file says of its special tokens and templates, by its specification."""

import pytest

from text_support import byte_level_metadata
from tonnage.core.errors import TokenizerError
from tonnage.text.facts import facts_of_gguf
from tonnage.text.tokenizer import Tokenizer

LETTERS = ["a", "b", "c", "d", "e", "f"]
TEMPLATE = "tokenizer.chat_template"


def opened(**fields):
    metadata = byte_level_metadata([*LETTERS, "ab"], [("a", "b")], "gpt-2")
    return Tokenizer.from_gguf(
        {**metadata, **{f"tokenizer.ggml.{k}": v for k, v in fields.items()}}
    )


def test_templates_get_the_named_tokens():
    known = opened(
        bos_token_id=0,
        eos_token_id=1,
        eot_token_id=2,
        unknown_token_id=3,
        padding_token_id=4,
        seperator_token_id=5,
        mask_token_id=0xFFFFFFFF,
    )
    assert known.names == {
        "bos_token": "a",
        "eos_token": "b",
        "unk_token": "d",
        "pad_token": "e",
        "sep_token": "f",
    }
    assert known.eos_ids == {1, 2}


def test_the_template_for_tools_has_a_key_of_its_own():
    metadata = byte_level_metadata([*LETTERS, "ab"], [("a", "b")], "gpt-2")
    assert not Tokenizer.from_gguf(metadata).knows_tools
    assert not facts_of_gguf(metadata).has_template
    for_tools = {**metadata, f"{TEMPLATE}.tool_use": "T"}
    assert facts_of_gguf(for_tools).has_template
    known = Tokenizer.from_gguf({**for_tools, TEMPLATE: "D", f"{TEMPLATE}.rag": "R"})
    assert (known.chat_template, known.tool_template, known.knows_tools) == ("D", "T", True)
    with pytest.raises(TokenizerError, match="tool_use' is not a text"):
        Tokenizer.from_gguf({**metadata, f"{TEMPLATE}.tool_use": 3})
