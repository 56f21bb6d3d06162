"""Tokens that a folder names outside of tokenizer.json, in the forms of old and new files."""

import json
from pathlib import Path
from typing import Any

import pytest

from tonnage.core.errors import TokenizerError
from tonnage.text.folder_names import configured_ids, folder_tokens


def write(folder: Path, **files: Any) -> str:
    for name, value in files.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    return str(folder)


def test_added_tokens_stand_in_the_order_of_their_ids(tmp_path: Path) -> None:
    """Special are those that a role names; the others match in normalized text."""
    folder = write(
        tmp_path,
        added_tokens={"b": 9, "<pad>": 11, "a": 10},
        special_tokens_map={"pad_token": "<pad>"},
    )
    found = folder_tokens(folder, None, {})
    assert [dict(one) for one in found.listed] == [
        {"content": "b", "special": False, "normalized": True},
        {"content": "a", "special": False, "normalized": True},
        {"content": "<pad>", "special": True, "normalized": False},
    ]
    assert found.names == {"pad_token": "<pad>"}
    assert [dict(one) for one in found.special] == [{"content": "<pad>", "special": True}]


@pytest.mark.parametrize("value", ["", None, 5, {"content": ""}, {"content": None}, {}])
def test_a_role_without_a_text_names_nothing(tmp_path: Path, value: Any) -> None:
    folder = write(tmp_path, special_tokens_map={"pad_token": value})
    found = folder_tokens(folder, None, {})
    assert (found.names, found.special) == ({}, ())


def test_an_id_of_added_tokens_that_is_none_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path, added_tokens={"a": -4})
    with pytest.raises(TokenizerError, match=r"^'added_tokens\.json' holds -4"):
        folder_tokens(folder, None, {})


def test_configured_ids_that_are_none_are_named_by_their_field(tmp_path: Path) -> None:
    folder = write(tmp_path, config={"eos_token_id": [2, -1, "x"]})
    with pytest.raises(TokenizerError, match=r"^'eos_token_id' holds 'x'"):
        configured_ids(folder, "eos_token_id")
    assert configured_ids(write(tmp_path, config={"eos_token_id": [2, -1]}), "eos_token_id") == [2]
