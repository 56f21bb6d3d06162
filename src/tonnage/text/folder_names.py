"""What the small files of a Hugging Face folder say of its special tokens.

Read as transformers 5 reads them: `added_tokens_decoder` in tokenizer_config.json makes that file
the only one for names; without it, as older versions wrote folders, special_tokens_map.json goes
before it. Ends come from generation_config.json, and from config.json where that names none.
"""

from collections.abc import Mapping
from typing import Any

from tonnage.text.json_parts import JsonParts, optional_parts
from tonnage.text.special import require_ids

_LEGACY_NAMES = "special_tokens_map.json"


def named_tokens(folder: str, config: JsonParts | None) -> Mapping[str, str]:
    """Return the texts of special tokens by role: bos_token, eos_token, pad_token, image_token, ...

    config: tokenizer_config.json. Raises TokenizerError for a malformed file.
    """
    sources = [config]
    if config is None or "added_tokens_decoder" not in config.members:
        sources.append(optional_parts(folder, _LEGACY_NAMES))
    found: dict[str, str | None] = {}
    for source in filter(None, sources):
        members = [name for name in source.members if name.endswith("_token")]
        found |= {name: _text(source.get(name)) for name in members}
        found |= _more_names(source)
    return {name: text for name, text in found.items() if text}


def _more_names(source: JsonParts) -> dict[str, str | None]:
    """Return the tokens that a model names beside the usual ones."""
    more = source.get("extra_special_tokens")
    if not isinstance(more, dict):
        return {}
    return {str(name): _text(value) for name, value in more.items()}


def _text(value: Any) -> str | None:
    """Return the text of a token that is written as a text, or as an object with more about it."""
    content = value.get("content") if isinstance(value, dict) else value
    return content if isinstance(content, str) else None


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
            return require_ids(value if isinstance(value, list) else [value], name)
    return []
