"""A tokenizer out of GGUF metadata (`tokenizer.ggml.*`, GGUF specification v3)."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from tonnage._native import TokenizerCore, ids_of_texts
from tonnage.core.errors import TokenizerError
from tonnage.text.core_options import Kind, Model, Step, split_step
from tonnage.text.ends import ENDS_AND_NEIGHBOURS, ends_among
from tonnage.text.pretokenizers import PreTokenizer, pre_tokenizer
from tonnage.text.special import Special, warn_outside

_PREFIX = "tokenizer.ggml."
# The usual template, and the one for conversations with tools.
TEMPLATE_KEYS = ("tokenizer.chat_template", "tokenizer.chat_template.tool_use")
_END_KEYS = (
    "eos_token_id", "eot_token_id", "eom_token_id",
    "fim_pad_token_id", "fim_rep_token_id", "fim_sep_token_id",
)  # fmt: skip
# What templates call the token of a key; the format's own key of the separator is misspelled.
_NAMES = {
    "bos_token_id": "bos_token",
    "eos_token_id": "eos_token",
    "unknown_token_id": "unk_token",
    "padding_token_id": "pad_token",
    "seperator_token_id": "sep_token",
    "cls_token_id": "cls_token",
    "mask_token_id": "mask_token",
}
_SPACE_MARK = "\u2581"


@runtime_checkable
class MetadataArray(Protocol):
    """An array of the metadata that has not been read yet."""

    count: int

    def buffer(self) -> memoryview:
        """Return the raw bytes of the elements; strings are a u64 length and their bytes."""
        ...


class _Metadata:
    """Checked access to the tokenizer's part of the metadata."""

    def __init__(self, metadata: Mapping[str, object]) -> None:
        self._metadata = metadata

    def array(self, name: str) -> MetadataArray | None:
        value = self._metadata.get(_PREFIX + name)
        if value is None or isinstance(value, MetadataArray):
            return value
        raise TokenizerError(f"'{_PREFIX}{name}' is not an array but {type(value).__name__}.")

    def required_array(self, name: str) -> MetadataArray:
        value = self.array(name)
        if value is None:
            raise TokenizerError(
                f"The file has no '{_PREFIX}{name}', so its tokenizer cannot be built; "
                "convert the model again with its tokenizer."
            )
        return value

    def text(self, name: str, default: str | None = None) -> str | None:
        value = self._metadata.get(_PREFIX + name, default)
        if value is not None and not isinstance(value, str):
            raise TokenizerError(f"'{_PREFIX}{name}' is not a text but {value!r:.80}.")
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        value = self._metadata.get(_PREFIX + name, default)
        if not isinstance(value, bool):
            raise TokenizerError(f"'{_PREFIX}{name}' is neither true nor false but {value!r:.80}.")
        return value

    def token_id(self, name: str, num_tokens: int) -> int | None:
        value = self._metadata.get(_PREFIX + name)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool):
            raise TokenizerError(f"'{_PREFIX}{name}' is not a token id but {value!r:.80}.")
        # Converters write -1 or 2^32 - 1 for "none".
        if value in (-1, 0xFFFFFFFF):
            return None
        if not 0 <= value < num_tokens:
            # People's files have such; llama.cpp goes on without, too.
            warn_outside(f"'{_PREFIX}{name}'", value, num_tokens)
            return None
        return value


def load_gguf(metadata: Mapping[str, object]) -> tuple[TokenizerCore, Special]:
    """Return a finished core and what surrounds it; raises TokenizerError."""
    fields = _Metadata(metadata)
    model = fields.text("model")
    if model == "gpt2":
        kind = pre_tokenizer(fields.text("pre", "default") or "default")
        ends = _well_known_ends(fields)
        core = _byte_level_core(fields, kind, ends)
        return core, _special(metadata, fields, core, kind, ends)
    if model == "llama":
        ends = _well_known_ends(fields)
        core = _scored_core(fields, ends)
        return core, _special(metadata, fields, core, None, ends)
    if model is None:
        raise TokenizerError(f"The file has no '{_PREFIX}model', so it carries no tokenizer.")
    raise TokenizerError(
        f"The tokenizer model '{model[:80]}' is not implemented; 'gpt2' and 'llama' are."
    )


def _well_known_ends(fields: _Metadata) -> list[int]:
    """Return the ids of the well-known ends. They are control tokens whatever type a file says."""
    tokens = fields.required_array("tokens")
    ids = ids_of_texts(tokens.buffer(), tokens.count, list(ENDS_AND_NEIGHBOURS))
    found = {text: i for text, i in zip(ENDS_AND_NEIGHBOURS, ids, strict=True) if i >= 0}
    return [found[text] for text in ends_among(found)]


def _byte_level_core(fields: _Metadata, kind: PreTokenizer, ends: list[int]) -> TokenizerCore:
    steps = [split_step(pattern) for pattern in kind.patterns]
    core = TokenizerCore(byte_level=True, whole_word=kind.whole_word, steps=steps)
    merges = fields.required_array("merges")
    _load_tokens(core, fields, ends, with_scores=False)
    core.load_gguf_merges(merges.buffer(), merges.count)
    core.finish()
    return core


def _scored_core(fields: _Metadata, ends: list[int]) -> TokenizerCore:
    unknown = fields.token_id("unknown_token_id", fields.required_array("tokens").count)
    prefixed = fields.flag("add_space_prefix", default=True)
    prefix = [Step(Kind.PREFIX, _SPACE_MARK)] if prefixed else []
    core = TokenizerCore(
        model=int(Model.SCORES),
        byte_fallback=True,
        unescapes_spaces=True,
        unknown_id=-1 if unknown is None else unknown,
        steps=[Step(Kind.SPACES, _SPACE_MARK), *prefix],
    )
    _load_tokens(core, fields, ends, with_scores=True)
    core.finish()
    return core


def _load_tokens(
    core: TokenizerCore, fields: _Metadata, ends: list[int], *, with_scores: bool
) -> None:
    tokens = fields.required_array("tokens")
    types = fields.array("token_type")
    scores = fields.required_array("scores") if with_scores else None
    core.load_gguf_tokens(
        tokens.buffer(),
        tokens.count,
        b"" if types is None else types.buffer(),
        b"" if scores is None else scores.buffer(),
        ends,
    )


def _special(
    metadata: Mapping[str, object],
    fields: _Metadata,
    core: TokenizerCore,
    kind: PreTokenizer | None,
    known_ends: list[int],
) -> Special:
    size = fields.required_array("tokens").count
    bos = fields.token_id("bos_token_id", size)
    eos = fields.token_id("eos_token_id", size)
    add_bos = fields.flag("add_bos_token", default=kind is None or kind.add_bos)
    add_eos = fields.flag("add_eos_token", default=False)
    ends = (fields.token_id(name, size) for name in _END_KEYS)
    named = {name: fields.token_id(key, size) for key, name in _NAMES.items()}
    return Special(
        prefix=(bos,) if add_bos and bos is not None else (),
        suffix=(eos,) if add_eos and eos is not None else (),
        bos_id=bos,
        end_ids=frozenset([*known_ends, *(i for i in ends if i is not None)]),
        names={
            n: core.token_bytes(i).decode("utf-8", "replace")
            for n, i in named.items()
            if i is not None
        },
        normal_form=kind.normal_form if kind else None,
        strips_space=kind is None and fields.flag("add_space_prefix", default=True),
        chat_template=_template(metadata, TEMPLATE_KEYS[0]),
        tool_template=_template(metadata, TEMPLATE_KEYS[1]),
    )


def _template(metadata: Mapping[str, object], key: str) -> str | None:
    template = metadata.get(key)
    if template is not None and not isinstance(template, str):
        raise TokenizerError(f"'{key}' is not a text.")
    return template
