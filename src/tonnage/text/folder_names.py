"""What the small files of a Hugging Face folder say of tokens beside tokenizer.json.

Read as transformers 5 reads them: `added_tokens_decoder` in tokenizer_config.json makes that file
the only one for names; without it, as older versions wrote folders, special_tokens_map.json goes
before it. Ends come from generation_config.json, and from config.json where that names none.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tonnage.core.errors import TokenizerError
from tonnage.text.json_parts import JsonParts, optional_parts
from tonnage.text.special import require_ids

_LISTED = "added_tokens_decoder"
# In which order tokens get ids that no file lists.
_NUMBERED = (
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token",
)  # fmt: skip
_EXTRA = ("additional_special_tokens", "extra_special_tokens")


@dataclass(frozen=True)
class FolderTokens:
    """Tokens that files beside tokenizer.json name.

    names: texts by role: bos_token, eos_token, pad_token, image_token, ... listed: with all that
    is said of them, which goes before what tokenizer.json says, by the id that they should get.
    special: texts that are special tokens, whether or not they are listed.
    """

    names: Mapping[str, str]
    listed: tuple[Mapping[str, Any], ...]
    special: tuple[Mapping[str, Any], ...]


def folder_tokens(folder: str, config: JsonParts | None, usual: Mapping[str, str]) -> FolderTokens:
    """Return the tokens of a folder; raises TokenizerError.

    config: tokenizer_config.json. usual: tokens by role where no file names another.
    """
    is_listed = config is not None and _LISTED in config.members
    legacy = None if is_listed else optional_parts(folder, "special_tokens_map.json")
    found: dict[str, Any] = dict(usual)
    extra: list[Any] = []
    for source in filter(None, (config, legacy)):
        found |= {name: source.get(name) for name in source.members if name.endswith("_token")}
        for value in (source.get(name) for name in _EXTRA):
            found |= value if isinstance(value, dict) else {}
            extra += value if isinstance(value, list) else []
    ordered = (*(name for name in _NUMBERED if name in found), *found)
    named = {name: token for name in ordered if (token := _token(found[name]))}
    special = (*named.values(), *(token for value in extra if (token := _token(value))))
    listed = _listed(config) if is_listed else _added(folder, {one["content"] for one in special})
    return FolderTokens({n: one["content"] for n, one in named.items()}, listed, special)


def _token(value: Any) -> Mapping[str, Any] | None:
    """Return a special token that is written as a text, or as an object with more about it."""
    token = value if isinstance(value, dict) else {"content": value}
    content = token.get("content")
    return {**token, "special": True} if isinstance(content, str) and content else None


def _listed(config: JsonParts | None) -> tuple[Mapping[str, Any], ...]:
    tokens = config.get(_LISTED) if config else None
    if not isinstance(tokens, dict) or not all(key.isdecimal() for key in tokens):
        raise TokenizerError(f"'{_LISTED}' is no object whose names are token ids.")
    return tuple(tokens[key] for key in sorted(tokens, key=int))


def _added(folder: str, special: set[str]) -> tuple[Mapping[str, Any], ...]:
    """Return the tokens of added_tokens.json, which has texts and ids only."""
    parts = optional_parts(folder, "added_tokens.json")
    ids = {text: parts.get(text) for text in parts.members} if parts else {}
    require_ids(ids.values(), "added_tokens.json")
    return tuple(
        {"content": text, "special": text in special, "normalized": text not in special}
        for text in sorted(ids, key=ids.__getitem__)
    )


def configured_ids(folder: str, name: str) -> list[int]:
    """Return the ids that `name` (`eos_token_id`, ...) holds, one or a list.

    Raises TokenizerError for what is no id.
    """
    for file in ("generation_config.json", "config.json"):
        parts = optional_parts(folder, file)
        value = parts.get(name) if parts else None
        if value is None and parts and isinstance(inner := parts.get("text_config"), dict):
            value = inner.get(name)
        if value is not None:
            # People write -1 for "none", as in GGUF files.
            ids = value if isinstance(value, list) else [value]
            return require_ids([one for one in ids if one != -1], name)
    return []
