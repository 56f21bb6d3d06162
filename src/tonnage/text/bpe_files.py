"""Folders with vocab.json and merges.txt in place of tokenizer.json.

What a tokenizer.json says besides follows from the class that the folder names, as the tokenizers
of transformers 5.24 have it.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tonnage._native import JsonFile, TokenizerCore
from tonnage.core.errors import TokenizerError
from tonnage.text.json_parts import JsonParts, optional_parts
from tonnage.text.pretokenizers import QWEN2

VOCABULARY, MERGES = "vocab.json", "merges.txt"
_MAX_MERGES_BYTES = 256 << 20
_END = "<|endoftext|>"


@dataclass(frozen=True)
class _Class:
    """A class of tokenizers: its special tokens by role, and what is done to a text."""

    names: Mapping[str, str]
    is_composed: bool = False  # brought to NFC
    splits: tuple[Mapping[str, Any], ...] = ()
    uses_pattern: bool = True  # that of GPT-2


_GPT2 = _Class({"bos_token": _END, "eos_token": _END, "unk_token": _END})
_QWEN_SPLIT = {"type": "Split", "pattern": {"Regex": QWEN2}, "behavior": "Isolated"}
_CLASSES = {
    "GPT2Tokenizer": _GPT2,
    "CodeGenTokenizer": _GPT2,
    "GPTNeoXTokenizer": _Class({**_GPT2.names, "pad_token": "<|padding|>"}, is_composed=True),
    "Qwen2Tokenizer": _Class(
        {"eos_token": _END, "unk_token": _END, "pad_token": _END},
        is_composed=True,
        splits=(_QWEN_SPLIT,),
        uses_pattern=False,
    ),
    "CohereTokenizer": _Class(
        {
            "bos_token": "<BOS_TOKEN>",
            "eos_token": "<|END_OF_TURN_TOKEN|>",
            "unk_token": "<UNK>",
            "sep_token": "<SEP>",
            "pad_token": "<PAD>",
            "cls_token": "<CLS>",
            "mask_token": "<MASK_TOKEN>",
        },
        is_composed=True,
        splits=({"type": "Digits", "individual_digits": True},),
    ),
}
_CLASS_OF_MODEL = {"qwen2": "Qwen2Tokenizer", "qwen3": "Qwen2Tokenizer"}


class BpeFiles:
    """A byte-level vocabulary in vocab.json, and its merges in merges.txt."""

    settings: Mapping[str, Any] = {"type": "BPE"}
    added_tokens: tuple[Mapping[str, Any], ...] = ()
    puts_what_is_configured = True

    def __init__(self, folder: str, config: JsonParts | None) -> None:
        """Take a folder without tokenizer.json; config: tokenizer_config.json.

        Raises TokenizerError where files are missing, or the class is none of these.
        """
        self._folder = folder
        if missing := self._missing():
            raise TokenizerError(missing)
        self._class = _CLASSES[_class_name(folder, config)]
        self._has_prefix = config is not None and config.get("add_prefix_space") is True
        self.names = self._class.names

    def _missing(self) -> str | None:
        """Return the sentence that says which files are missing, if any are."""
        found = [n for n in (VOCABULARY, MERGES) if os.path.isfile(self._path(n))]
        if len(found) == 2:
            return None
        if found:
            other = MERGES if found == [VOCABULARY] else VOCABULARY
            has, lacks = f"'{found[0]}'", f"neither '{other}' nor tokenizer.json"
        elif os.path.isfile(self._path("tokenizer.model")):
            has, lacks = "tokenizer.model", "no tokenizer.json, into which that can be converted"
        else:
            return (
                f"'{self._folder}' has no tokenizer.json; save the model's fast tokenizer beside "
                "its weights."
            )
        return (
            f"'{self._folder}' has {has} but {lacks}; "
            "AutoTokenizer.from_pretrained(folder).save_pretrained(folder) of transformers writes "
            "tokenizer.json."
        )

    def _path(self, name: str) -> str:
        return os.path.join(self._folder, name)

    @property
    def components(self) -> dict[str, Any]:
        """Normalizer, pre-tokenizer, post-processor and decoder, as a tokenizer.json has them."""
        level = {
            "type": "ByteLevel",
            "add_prefix_space": self._has_prefix,
            "use_regex": self._class.uses_pattern,
        }
        pieces = {"type": "Sequence", "pretokenizers": [*self._class.splits, level]}
        return {
            "normalizer": {"type": "NFC"} if self._class.is_composed else None,
            "pre_tokenizer": pieces,
            "post_processor": None,
            "decoder": {"type": "ByteLevel"},
        }

    def load(self, core: TokenizerCore, kind: int) -> None:
        """Give a core its vocabulary and merges."""
        path = self._path(VOCABULARY)
        try:
            core.load_json_vocabulary(JsonFile(path), 0)
            path = self._path(MERGES)
            core.load_text_merges(_read(path))
        except TokenizerError as error:
            raise TokenizerError(f"'{path}' is no part of a tokenizer: {error}") from None


def _read(path: str) -> bytes:
    size = os.path.getsize(path)
    if size > _MAX_MERGES_BYTES:
        raise TokenizerError(f"It has {size:,} bytes; at most {_MAX_MERGES_BYTES:,} are expected.")
    with open(path, "rb") as file:
        return file.read()


def _class_name(folder: str, config: JsonParts | None) -> str:
    """Return the class of a folder's tokenizer; raises TokenizerError for one not known here."""
    model = optional_parts(folder, "config.json")
    kind = model.get("model_type") if model else None
    named = [parts.get("tokenizer_class") for parts in (config, model) if parts]
    name = next((str(one).removesuffix("Fast") for one in named if one), None)
    # Folders of Qwen 2 name other classes, and are right to no one.
    if name is None or kind == "qwen2":
        name = _CLASS_OF_MODEL.get(str(kind), name)
    if name in _CLASSES:
        return name
    wrong = f"names the class '{name[:80]}'" if name else "names no class"
    raise TokenizerError(
        f"'{folder}' has {VOCABULARY} and {MERGES} without tokenizer.json, and its "
        f"tokenizer_config.json {wrong}; known ones are {', '.join(sorted(_CLASSES))}. "
        "With tokenizer.json beside them, no class has to be known."
    )
