"""A tokenizer out of a Hugging Face folder: tokenizer.json and tokenizer_config.json.

The vocabulary and the merges are read natively in place; only the small rest becomes Python
objects.
"""

import os
from typing import Any

from tonnage._native import TokenizerCore
from tonnage.core.errors import TokenizerError
from tonnage.text.ends import ENDS_AND_NEIGHBOURS, ends_among
from tonnage.text.folder_names import configured_ids, named_tokens
from tonnage.text.folder_templates import folder_templates
from tonnage.text.json_parts import JsonParts, optional_parts, parse_json
from tonnage.text.pipeline import Pipeline, read_pipeline
from tonnage.text.special import CONTROL, Special, require_ids

_USER_DEFINED = 4
_EATS_BEFORE = 1
_EATS_AFTER = 2
# Classes of transformers that put BOS and EOS themselves, as the configuration says.
_CONFIGURED_CLASSES = ("Llama", "CodeLlama", "Gemma")


def load_folder(folder: str) -> tuple[TokenizerCore, Special]:
    """Return a finished core and what surrounds it; raises TokenizerError."""
    path = os.path.join(folder, "tokenizer.json")
    if not os.path.isfile(path):
        raise TokenizerError(
            f"'{folder}' has no tokenizer.json; save the model's fast tokenizer beside its weights."
        )
    parts = JsonParts(path)
    config = optional_parts(folder, "tokenizer_config.json")
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


def _build_core(
    parts: JsonParts, model: dict[str, tuple[int, int]], pipeline: Pipeline
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
    folder: str, core: TokenizerCore, pipeline: Pipeline, config: JsonParts | None
) -> Special:
    names = named_tokens(folder, config)
    bos, eos = _id_of(core, names.get("bos_token")), _id_of(core, names.get("eos_token"))
    prefix = list(pipeline.prefix_ids)
    suffix = list(pipeline.suffix_ids)
    class_name = config.get("tokenizer_class") if config else None
    if config and isinstance(class_name, str) and class_name.startswith(_CONFIGURED_CLASSES):
        for flag, token, ids in (("add_bos_token", bos, prefix), ("add_eos_token", eos, suffix)):
            wanted = config.get(flag)
            if wanted is not None:
                ids[:] = [token] if wanted and token is not None else []
    ends = [*configured_ids(folder, "eos_token_id"), *_well_known_ends(core)]
    begins = [i for i in (bos, *prefix, *configured_ids(folder, "bos_token_id")) if i is not None]
    templates = folder_templates(folder)
    return Special(
        prefix=tuple(prefix),
        suffix=tuple(suffix),
        bos_id=begins[0] if begins else None,
        end_ids=frozenset([*ends, eos] if eos is not None else ends),
        names=names,
        normal_form=pipeline.normal_form,
        strips_space=pipeline.strips_space,
        chat_template=templates.get("default"),
        tool_template=templates.get("tool_use"),
    )


def _id_of(core: TokenizerCore, text: str | None) -> int | None:
    found = -1 if text is None else core.find(text.encode("utf-8", "replace"))
    return None if found < 0 else found


def _well_known_ends(core: TokenizerCore) -> list[int]:
    """Return the ids of the well-known ends among the added tokens."""
    found = {text: core.find(text.encode()) for text in ENDS_AND_NEIGHBOURS}
    added = {t: i for t, i in found.items() if i >= 0 and core.kind(i) in (CONTROL, _USER_DEFINED)}
    return [added[text] for text in ends_among(added)]
