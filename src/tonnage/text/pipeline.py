"""The components of a tokenizer.json, checked one by one; an unknown one is named in an error."""

import re
from dataclasses import dataclass, field
from typing import Any

from tonnage.core.errors import TokenizerError
from tonnage.text.pretokenizers import DIGITS, GPT2
from tonnage.text.special import require_ids

_SPACE_MARK = "\u2581"
_NORMAL_FORMS = ("NFC", "NFD", "NFKC", "NFKD")
_PREFIX = {"never": 0, "first": 1, "always": 2}


@dataclass
class Pipeline:
    """What the components ask of the core and of its surroundings."""

    byte_level: bool = False
    byte_fallback: bool = False
    fuse_unknown: bool = False
    whole_word: bool = False
    escape_spaces: bool = False
    unknown_token: str | None = None
    prefix: int = 0
    prefix_if_missing: bool = False
    patterns: list[str] = field(default_factory=list)
    normal_form: str | None = None
    strips_space: bool = False
    prefix_ids: list[int] = field(default_factory=list)
    suffix_ids: list[int] = field(default_factory=list)


def read_pipeline(components: dict[str, Any], model: dict[str, Any]) -> Pipeline:
    """Return what the components of a tokenizer.json mean; raises TokenizerError.

    components: normalizer, pre_tokenizer, post_processor, decoder (objects or None). model: the
    members of the model beside its vocabulary and merges.
    """
    pipeline = Pipeline()
    try:
        _read_model(pipeline, model)
        for part in _flatten(components.get("normalizer"), "normalizers"):
            _read_normalizer(pipeline, part)
        for part in _flatten(components.get("pre_tokenizer"), "pretokenizers"):
            _read_pre_tokenizer(pipeline, part)
        for part in _flatten(components.get("decoder"), "decoders"):
            _read_decoder(pipeline, part)
        for part in _flatten(components.get("post_processor"), "processors"):
            _read_post_processor(pipeline, part)
    except (AttributeError, TypeError, KeyError, IndexError, RecursionError) as error:
        raise TokenizerError(f"A component of tokenizer.json is malformed: {error}.") from None
    return pipeline


def _flatten(component: Any, list_name: str) -> list[dict[str, Any]]:
    if component is None:
        return []
    if component["type"] != "Sequence":
        return [component]
    return [leaf for part in component[list_name] for leaf in _flatten(part, list_name)]


def _refuse(what: str, part: dict[str, Any]) -> TokenizerError:
    return TokenizerError(
        f"The {what} {part!r:.200} of tokenizer.json is not implemented; "
        "a GGUF file of the model may carry a tokenizer that is."
    )


def _read_model(pipeline: Pipeline, model: dict[str, Any]) -> None:
    if model.get("type", "BPE") != "BPE":
        raise TokenizerError(
            f"The tokenizer model '{model.get('type')}' is not implemented; 'BPE' is."
        )
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(name):
            raise TokenizerError(
                f"The tokenizer model has '{name}' = {model[name]!r}, which is not implemented."
            )
    pipeline.byte_fallback = bool(model.get("byte_fallback"))
    pipeline.fuse_unknown = bool(model.get("fuse_unk"))
    pipeline.whole_word = bool(model.get("ignore_merges"))
    unknown = model.get("unk_token")
    if unknown is not None and not isinstance(unknown, str):
        raise TokenizerError(f"'unk_token' is {unknown!r:.80}, not a text.")
    pipeline.unknown_token = unknown


def _read_normalizer(pipeline: Pipeline, part: dict[str, Any]) -> None:
    kind = part["type"]
    if kind in _NORMAL_FORMS and not pipeline.escape_spaces and pipeline.normal_form is None:
        pipeline.normal_form = kind
    elif kind == "Replace" and part["pattern"] == {"String": " "}:
        if part["content"] != _SPACE_MARK:
            raise _refuse("normalizer", part)
        pipeline.escape_spaces = True
    elif kind == "Prepend" and part["prepend"] == _SPACE_MARK:
        pipeline.prefix = _PREFIX["always"]
    else:
        raise _refuse("normalizer", part)


def _read_pre_tokenizer(pipeline: Pipeline, part: dict[str, Any]) -> None:
    kind = part["type"]
    if kind == "ByteLevel":
        pipeline.byte_level = True
        if part.get("add_prefix_space"):
            if pipeline.patterns:  # It would go in front of every piece.
                raise _refuse("pre-tokenizer", part)
            pipeline.prefix, pipeline.prefix_if_missing = _PREFIX["always"], True
        if part.get("use_regex", True):
            pipeline.patterns.append(GPT2)
    elif pipeline.byte_level:
        # What follows would see the byte alphabet instead of the text.
        raise _refuse("pre-tokenizer behind ByteLevel", part)
    elif kind == "Digits":
        pipeline.patterns.append(DIGITS if part.get("individual_digits") else DIGITS + "+")
    elif kind == "Split":
        _read_split(pipeline, part)
    elif kind == "Metaspace":
        _read_metaspace(pipeline, part)
    else:
        raise _refuse("pre-tokenizer", part)


def _read_split(pipeline: Pipeline, part: dict[str, Any]) -> None:
    pattern, behavior = part["pattern"], part["behavior"]
    if part.get("invert"):
        raise _refuse("pre-tokenizer", part)
    if behavior == "Isolated":
        literal = pattern.get("String")
        source = str(pattern["Regex"]) if literal is None else re.escape(literal)
        pipeline.patterns.append(source)
    elif behavior == "MergedWithPrevious" and pattern == {"String": " "}:
        if not pipeline.escape_spaces:  # Else no space is left.
            pipeline.patterns.append("[^ ]*+ |[^ ]++")
    else:
        raise _refuse("pre-tokenizer", part)


def _read_metaspace(pipeline: Pipeline, part: dict[str, Any]) -> None:
    if part.get("replacement") != _SPACE_MARK or pipeline.patterns:
        raise _refuse("pre-tokenizer", part)
    legacy = "always" if part.get("add_prefix_space", True) else "never"
    scheme = part.get("prepend_scheme", legacy)
    pipeline.escape_spaces = True
    pipeline.prefix, pipeline.prefix_if_missing = _PREFIX[scheme], True
    if part.get("split", True):
        pipeline.patterns.append(f"{_SPACE_MARK}[^{_SPACE_MARK}]*")


def _read_decoder(pipeline: Pipeline, part: dict[str, Any]) -> None:
    kind = part["type"]
    replaces = {"pattern": {"String": _SPACE_MARK}, "content": " "}
    if kind in ("ByteLevel", "ByteFallback", "Fuse"):
        return
    if kind == "Replace" and {k: v for k, v in part.items() if k != "type"} == replaces:
        return
    if kind == "Strip" and part["content"] == " " and (part["start"], part["stop"]) == (1, 0):
        pipeline.strips_space = True
    elif kind == "Metaspace":
        pipeline.strips_space = part.get("prepend_scheme", "always") != "never"
    else:
        raise _refuse("decoder", part)


def _read_post_processor(pipeline: Pipeline, part: dict[str, Any]) -> None:
    if part["type"] == "ByteLevel":
        return  # It only moves offsets.
    if part["type"] != "TemplateProcessing":
        raise _refuse("post-processor", part)
    target = pipeline.prefix_ids
    for item in part["single"]:
        if "Sequence" in item:
            target = pipeline.suffix_ids
            continue
        name = item["SpecialToken"]["id"]
        target += require_ids(part["special_tokens"][name]["ids"], "special_tokens")
