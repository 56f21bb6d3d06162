"""The components of a tokenizer.json, checked one by one; an unknown one is named in an error."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tonnage.core.errors import TokenizerError
from tonnage.text.core_options import Kind, Model, Step
from tonnage.text.special import require_ids
from tonnage.text.steps import refuse, steps_of

if TYPE_CHECKING:
    from tonnage.text.decoders import Decoder

_SPACE_MARK = "\u2581"
_NORMAL_FORMS = ("NFC", "NFD", "NFKC", "NFKD")
_SPACES_OUT = {"type": "Replace", "pattern": {"String": _SPACE_MARK}, "content": " "}
_SPACE_OFF = {"type": "Strip", "content": " ", "start": 1, "stop": 0}


@dataclass
class Pipeline:
    """What the components ask of the core and of its surroundings.

    normalizers: what Python does to a text before the core. decoder: of tokens where the core's own
    does not do.
    """

    options: dict[str, Any] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    normalizers: list[dict[str, Any]] = field(default_factory=list)
    decoder: "Decoder | None" = None
    strips_space: bool = False
    drops_first_marks: bool = False
    prefix_ids: list[int] = field(default_factory=list)
    suffix_ids: list[int] = field(default_factory=list)

    @property
    def normal_form(self) -> str | None:
        """The normal form that is all that Python does to a text, or None."""
        kinds = [part["type"] for part in self.normalizers]
        return kinds[0] if len(kinds) == 1 and kinds[0] in _NORMAL_FORMS else None


def read_pipeline(
    components: dict[str, Any], model: dict[str, Any], *, has_normalized: bool = False
) -> Pipeline:
    """Return what the components of a tokenizer.json mean; raises TokenizerError.

    components: normalizer, pre_tokenizer, post_processor, decoder (objects or None). model: the
    members of the model beside its vocabulary and merges. has_normalized: whether added tokens are
    looked for in normalized text.
    """
    pipeline = Pipeline()
    try:
        _read_model(pipeline, model)
        parts = list(_flatten(components.get("normalizer"), "normalizers"))
        _read_normalizers(pipeline, parts, folds=not has_normalized)
        for part in _flatten(components.get("pre_tokenizer"), "pretokenizers"):
            pipeline.steps += steps_of(part)
        _read_decoder(pipeline, _flatten(components.get("decoder"), "decoders"))
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


def _read_model(pipeline: Pipeline, model: dict[str, Any]) -> None:
    kind = model.get("type", "BPE")
    if kind not in ("BPE", "Unigram", "WordPiece", "WordLevel"):
        raise TokenizerError(
            f"The tokenizer model '{kind!s:.80}' is not implemented; "
            "'BPE', 'Unigram', 'WordPiece' and 'WordLevel' are."
        )
    if model.get("dropout"):
        raise TokenizerError(
            f"The tokenizer model has 'dropout' = {model['dropout']!r:.80}, which encodes a text "
            "in another way each time; set it to null in tokenizer.json."
        )
    options = pipeline.options
    options["model"] = int(Model[kind])
    options["byte_fallback"] = bool(model.get("byte_fallback"))
    if kind == "Unigram":
        unknown = model.get("unk_id")
        options["unknown_id"] = -1 if unknown is None else require_ids([unknown], "unk_id")[0]
        return
    options["unknown_token"] = _text(model, "unk_token")
    if kind == "BPE":
        options["fuse_unknown"] = bool(model.get("fuse_unk"))
        options["whole_word"] = bool(model.get("ignore_merges"))
        options["word_suffix"] = _text(model, "end_of_word_suffix")
    if kind != "WordLevel":
        options["subword_prefix"] = _text(model, "continuing_subword_prefix")
    if kind == "WordPiece":
        (limit,) = require_ids(
            [model.get("max_input_chars_per_word", 100)], "max_input_chars_per_word"
        )
        options["max_word_chars"] = limit


def _text(model: dict[str, Any], name: str) -> str:
    value = model.get(name)
    if value is not None and not isinstance(value, str):
        raise TokenizerError(f"'{name}' is {value!r:.80}, not a text.")
    return value or ""


def _folded(part: dict[str, Any]) -> Step | None:
    """Return the step of the core that does what a normalizer does, if there is one."""
    if part["type"] == "Prepend":
        return Step(Kind.PREFIX, part["prepend"])
    if part["type"] == "Replace" and part["pattern"] == {"String": " "}:
        return Step(Kind.SPACES, part["content"])
    return None


def _read_normalizers(pipeline: Pipeline, parts: list[dict[str, Any]], *, folds: bool) -> None:
    """Leave to the core what it can do behind all else."""
    while folds and parts and (step := _folded(parts[-1])) is not None:
        pipeline.steps.insert(0, step)
        parts = parts[:-1]
    pipeline.normalizers = parts


def _read_decoder(pipeline: Pipeline, parts: list[dict[str, Any]]) -> None:
    """Leave to the core what it does itself: byte letters, spaces and byte tokens."""
    options = pipeline.options
    kinds = [part["type"] for part in parts]
    is_letters = kinds == ["ByteLevel"]
    if is_letters and _is_byte_level(pipeline):
        options["byte_level"] = True
        pipeline.steps.pop()
        return
    if kinds == ["Metaspace"] and not options["byte_fallback"]:
        decoder = parts[0]
        legacy = "always" if decoder.get("add_prefix_space", True) else "never"
        if decoder.get("replacement", _SPACE_MARK) == _SPACE_MARK:
            options["unescapes_spaces"] = True
            pipeline.drops_first_marks = decoder.get("prepend_scheme", legacy) != "never"
            return
    if parts[:1] == [_SPACES_OUT] and ("ByteFallback" in kinds) == options["byte_fallback"]:
        rest = [part for part in parts[1:] if part["type"] != "ByteFallback"]
        if rest[:1] in ([], [{"type": "Fuse"}]) and rest[1:] in ([], [_SPACE_OFF]):
            options["unescapes_spaces"] = True
            pipeline.strips_space = rest[1:] == [_SPACE_OFF]
            return
    from tonnage.text.decoders import read_decoder

    pipeline.decoder, pipeline.strips_space = read_decoder(parts)


def _is_byte_level(pipeline: Pipeline) -> bool:
    """Whether the core can merge bytes, instead of the letters that stand for them."""
    options = pipeline.options
    plain = (
        not options["byte_fallback"]
        and not options.get("word_suffix")
        and not options.get("subword_prefix")
    )
    letters = [step.kind == Kind.LETTERS for step in pipeline.steps]
    return plain and options["model"] == Model.BPE and letters.count(True) == 1 and letters[-1]


def _read_post_processor(pipeline: Pipeline, part: dict[str, Any]) -> None:
    kind = part["type"]
    if kind == "ByteLevel":
        return  # It only moves offsets.
    if kind in ("RobertaProcessing", "BertProcessing"):
        prefix, suffix = ([part[name][1]] for name in ("cls", "sep"))
    elif kind == "TemplateProcessing":
        prefix, suffix = _template_ids(part)
    else:
        raise refuse("post-processor", part)
    if pipeline.prefix_ids or pipeline.suffix_ids:
        raise refuse("second post-processor", part)
    pipeline.prefix_ids = require_ids(prefix, kind)
    pipeline.suffix_ids = require_ids(suffix, kind)


def _template_ids(part: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    ids: tuple[list[Any], list[Any]] = ([], [])
    num_texts = 0
    for item in part["single"]:
        if "Sequence" in item:
            num_texts += 1
            continue
        name = item["SpecialToken"]["id"]
        ids[min(num_texts, 1)].extend(part["special_tokens"][name]["ids"])
    if num_texts != 1:
        raise refuse("post-processor", part)
    return ids
