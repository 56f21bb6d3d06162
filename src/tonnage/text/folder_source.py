"""A tokenizer out of a Hugging Face folder: tokenizer.json and tokenizer_config.json.

The vocabulary and the merges are read natively in place; only the small rest becomes Python
objects.
"""

import json
import os
from typing import Any

from tonnage._native import JsonFile, TokenizerCore
from tonnage.core.errors import TokenizerError
from tonnage.text.pipeline import Pipeline, read_pipeline
from tonnage.text.special import CONTROL, Special, require_ids

_USER_DEFINED = 4
_EATS_BEFORE = 1
_EATS_AFTER = 2
_MAX_CONFIG_BYTES = 4 << 20
# Classes of transformers that put BOS and EOS themselves, as the configuration says.
_CONFIGURED_CLASSES = ("Llama", "CodeLlama", "Gemma")


class _JsonParts:
    """Members of the object at the top of a JSON file, parsed one at a time."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.file = JsonFile(path)
        self.members = self.file.members(0)

    def get(self, name: str, default: Any = None) -> Any:
        span = self.members.get(name)
        return default if span is None else parse_json(self.file, span, self.path)


def parse_json(file: JsonFile, span: tuple[int, int], path: str) -> Any:
    """Return the Python value of a part of a JSON file; raises TokenizerError."""
    if span[1] - span[0] > _MAX_CONFIG_BYTES:
        raise TokenizerError(
            f"A part of '{path}' has {span[1] - span[0]} bytes; at most {_MAX_CONFIG_BYTES} "
            "are expected outside of the vocabulary."
        )
    try:
        return json.loads(file.value(*span))
    except (ValueError, RecursionError) as error:
        raise TokenizerError(f"'{path}' is not valid JSON near byte {span[0]}: {error}.") from None


def load_folder(folder: str) -> tuple[TokenizerCore, Special]:
    """Return a finished core and what surrounds it; raises TokenizerError."""
    path = os.path.join(folder, "tokenizer.json")
    if not os.path.isfile(path):
        raise TokenizerError(
            f"'{folder}' has no tokenizer.json; save the model's fast tokenizer beside its weights."
        )
    parts = _JsonParts(path)
    config = _optional_parts(folder, "tokenizer_config.json")
    if "model" not in parts.members:
        raise TokenizerError(f"'{path}' has no 'model'.")
    model = parts.file.members(parts.members["model"][0])
    pipeline = read_pipeline(
        {
            name: parts.get(name)
            for name in ("normalizer", "pre_tokenizer", "post_processor", "decoder")
        },
        {
            name: parse_json(parts.file, span, path)
            for name, span in model.items()
            if name not in ("vocab", "merges")
        },
    )
    core = _build_core(parts, model, pipeline)
    return core, _special(folder, core, pipeline, config)


def _optional_parts(folder: str, name: str) -> _JsonParts | None:
    path = os.path.join(folder, name)
    return _JsonParts(path) if os.path.isfile(path) else None


def _build_core(
    parts: _JsonParts, model: dict[str, tuple[int, int]], pipeline: Pipeline
) -> TokenizerCore:
    for name in ("vocab", "merges"):
        if name not in model:
            raise TokenizerError(f"The model of '{parts.path}' has no '{name}'.")
    core = TokenizerCore(
        byte_level=pipeline.byte_level,
        byte_fallback=pipeline.byte_fallback,
        fuse_unknown=pipeline.fuse_unknown,
        whole_word=pipeline.whole_word,
        escape_spaces=pipeline.escape_spaces,
        unknown_token=pipeline.unknown_token or "",
        prefix=pipeline.prefix,
        prefix_if_missing=pipeline.prefix_if_missing,
        patterns=list(pipeline.patterns),
    )
    core.load_json_vocabulary(parts.file, model["vocab"][0])
    core.load_json_merges(parts.file, model["merges"][0])
    if "added_tokens" in parts.members:
        for span in parts.file.elements(parts.members["added_tokens"][0]):
            _add_token(core, parse_json(parts.file, span, parts.path))
    core.finish()
    return core


def _add_token(core: TokenizerCore, token: Any) -> None:
    content = token.get("content") if isinstance(token, dict) else None
    if not isinstance(content, str) or not content:
        raise TokenizerError(f"An added token has no text: {token!r:.120}.")
    (token_id,) = require_ids([token.get("id")], "added_tokens")
    if token.get("single_word"):
        raise TokenizerError(
            f"The added token '{content[:80]}' has 'single_word', which is not implemented."
        )
    kind = CONTROL if token.get("special") else _USER_DEFINED
    eats = (_EATS_BEFORE if token.get("lstrip") else 0) | (
        _EATS_AFTER if token.get("rstrip") else 0
    )
    core.add_special(token_id, content.encode("utf-8", "replace"), kind, eats)


def _special(
    folder: str, core: TokenizerCore, pipeline: Pipeline, config: _JsonParts | None
) -> Special:
    bos = _named_token(core, config, "bos_token")
    eos = _named_token(core, config, "eos_token")
    prefix = list(pipeline.prefix_ids)
    suffix = list(pipeline.suffix_ids)
    class_name = config.get("tokenizer_class") if config else None
    if config and isinstance(class_name, str) and class_name.startswith(_CONFIGURED_CLASSES):
        for flag, token, ids in (("add_bos_token", bos, prefix), ("add_eos_token", eos, suffix)):
            wanted = config.get(flag)
            if wanted is not None:
                ids[:] = [token] if wanted and token is not None else []
    ends = set(_generation_ends(folder))
    if eos is not None:
        ends.add(eos)
    return Special(
        prefix=tuple(prefix),
        suffix=tuple(suffix),
        bos_id=bos if bos is not None else (prefix[0] if prefix else None),
        end_ids=frozenset(ends),
        normal_form=pipeline.normal_form,
        strips_space=pipeline.strips_space,
        chat_template=_chat_template(folder, config),
    )


def _named_token(core: TokenizerCore, config: _JsonParts | None, name: str) -> int | None:
    value = config.get(name) if config else None
    content = value.get("content") if isinstance(value, dict) else value
    if not isinstance(content, str):
        return None
    found = core.find(content.encode("utf-8", "replace"))
    return None if found < 0 else found


def _generation_ends(folder: str) -> list[int]:
    parts = _optional_parts(folder, "generation_config.json")
    value = parts.get("eos_token_id") if parts else None
    if value is None:
        return []
    return require_ids(value if isinstance(value, list) else [value], "eos_token_id")


def _chat_template(folder: str, config: _JsonParts | None) -> str | None:
    path = os.path.join(folder, "chat_template.jinja")
    if os.path.isfile(path):
        return _read_template(path)
    parts = _optional_parts(folder, "chat_template.json")
    value = parts.get("chat_template") if parts else None
    if value is None and config:
        value = config.get("chat_template")
    if isinstance(value, list):
        named = [t for t in value if isinstance(t, dict) and t.get("name") == "default"]
        value = named[-1].get("template") if named else None
    if value is not None and not isinstance(value, str):
        raise TokenizerError(f"The chat template of '{folder}' is not a text.")
    return value


def has_chat_template(folder: str) -> bool:
    """Whether `folder` holds a chat template; raises TokenizerError for a malformed file."""
    return _chat_template(folder, _optional_parts(folder, "tokenizer_config.json")) is not None


def _read_template(path: str) -> str:
    with open(path, "rb") as file:
        data = file.read(_MAX_CONFIG_BYTES + 1)
    if len(data) > _MAX_CONFIG_BYTES:
        raise TokenizerError(f"'{path}' exceeds {_MAX_CONFIG_BYTES} bytes.")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise TokenizerError(f"'{path}' is not valid UTF-8 at byte {error.start}.") from None
