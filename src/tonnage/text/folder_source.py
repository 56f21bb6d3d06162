"""A tokenizer out of a Hugging Face folder: its files and tokenizer_config.json.

The vocabulary and the merges are read natively in place; only the small rest becomes Python
objects.
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tonnage._native import TokenizerCore
from tonnage.text.ends import ENDS_AND_NEIGHBOURS, ends_among
from tonnage.text.folder_names import FolderTokens, configured_ids, folder_tokens
from tonnage.text.folder_templates import folder_templates
from tonnage.text.json_parts import JsonParts, optional_parts
from tonnage.text.pipeline import Pipeline, read_pipeline
from tonnage.text.special import CONTROL, Special, require_ids
from tonnage.text.tokenizer_json import TokenizerJson, content_of

if TYPE_CHECKING:
    from tonnage.text.bpe_files import BpeFiles
    from tonnage.text.normalizers import Normalizer

_USER_DEFINED = 4
# By names of tokenizer.json; see native/text/specials.h.
_MANNERS = {"lstrip": 1, "rstrip": 2, "single_word": 4}
# Classes of transformers that put BOS and EOS themselves, as the configuration says.
_CONFIGURED_CLASSES = ("Llama", "CodeLlama", "Gemma")


def load_folder(folder: str) -> tuple[TokenizerCore, Special]:
    """Return a finished core and what surrounds it; raises TokenizerError."""
    config = optional_parts(folder, "tokenizer_config.json")
    source = _source(folder, config)
    tokens, added = folder_tokens(folder, config, source.names), list(source.added_tokens)
    pipeline = read_pipeline(
        source.components,
        dict(source.settings),
        has_normalized=any(map(_is_normalized, (*added, *tokens.listed, *tokens.special))),
    )
    normalizer = _normalizer(pipeline)
    core = TokenizerCore(**pipeline.options, steps=pipeline.steps)
    source.load(core, pipeline.options["model"])
    for token in _added_tokens(core, added, tokens):
        _add_token(core, token, normalizer)
    core.finish()
    is_configured = source.puts_what_is_configured or _is_configured_class(config)
    special = _special(folder, core, pipeline, config if is_configured else None, tokens.names)
    return core, replace(special, normalizer=normalizer)


def _source(folder: str, config: JsonParts | None) -> "TokenizerJson | BpeFiles":
    path = os.path.join(folder, "tokenizer.json")
    if os.path.isfile(path):
        return TokenizerJson(path)
    from tonnage.text.bpe_files import BpeFiles

    return BpeFiles(folder, config)


def _is_configured_class(config: JsonParts | None) -> bool:
    name = config.get("tokenizer_class") if config else None
    return isinstance(name, str) and name.startswith(_CONFIGURED_CLASSES)


def _normalizer(pipeline: Pipeline) -> "Normalizer | None":
    if not pipeline.normalizers:
        return None
    from tonnage.text.normalizers import normalizer_of

    return normalizer_of(pipeline.normalizers)


def _is_normalized(token: Mapping[str, Any]) -> bool:
    """Whether a token is looked for in text that the normalizer has been over."""
    return bool(token.get("normalized", not token.get("special")))


def _added_tokens(
    core: TokenizerCore, added: list[Mapping[str, Any]], more: FolderTokens
) -> list[Mapping[str, Any]]:
    """Return all added tokens with their ids, numbered as transformers numbers them.

    A token that is new gets the next id, whichever it was listed by.
    """
    tokens: dict[str, Mapping[str, Any]] = {content_of(token): token for token in added}
    ids = require_ids([token.get("id") for token in added], "added_tokens")
    next_id = max([core.size, *(i + 1 for i in ids)])
    special = {one["content"] for one in more.special}
    known = {*tokens, *map(content_of, more.listed)}
    for token in (*more.listed, *(one for one in more.special if one["content"] not in known)):
        content = content_of(token)
        token_id = tokens[content]["id"] if content in tokens else core.find(_utf8(content))
        if token_id < 0:
            token_id, next_id = next_id, next_id + 1
        is_special = token.get("special") or content in special
        tokens[content] = {**token, "id": token_id, "special": is_special}
    return list(tokens.values())


def _add_token(
    core: TokenizerCore, token: Mapping[str, Any], normalizer: "Normalizer | None"
) -> None:
    text = _utf8(token["content"])
    written = text if _is_normalized(token) else None
    if written is not None and normalizer is not None:
        written = normalizer(text.decode())[0].encode()
    kind = CONTROL if token.get("special") else _USER_DEFINED
    manners = sum(bit for name, bit in _MANNERS.items() if token.get(name))
    core.add_special(token["id"], text, kind, manners, written)


def _special(
    folder: str,
    core: TokenizerCore,
    pipeline: Pipeline,
    config: JsonParts | None,
    names: Mapping[str, str],
) -> Special:
    bos, eos = _id_of(core, names.get("bos_token")), _id_of(core, names.get("eos_token"))
    prefix = list(pipeline.prefix_ids)
    suffix = list(pipeline.suffix_ids)
    if config:
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
        drops_first_marks=pipeline.drops_first_marks,
        decoder=pipeline.decoder,
        chat_template=templates.get("default"),
        tool_template=templates.get("tool_use"),
    )


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _id_of(core: TokenizerCore, text: str | None) -> int | None:
    found = -1 if text is None else core.find(_utf8(text))
    return None if found < 0 else found


def _well_known_ends(core: TokenizerCore) -> list[int]:
    """Return the ids of the well-known ends among the added tokens."""
    found = {text: core.find(text.encode()) for text in ENDS_AND_NEIGHBOURS}
    added = {t: i for t, i in found.items() if i >= 0 and core.kind(i) in (CONTROL, _USER_DEFINED)}
    return [added[text] for text in ends_among(added)]
