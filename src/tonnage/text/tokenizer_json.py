"""What a tokenizer.json says, part by part."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from tonnage._native import TokenizerCore
from tonnage.core.errors import TokenizerError
from tonnage.text.core_options import Model
from tonnage.text.json_parts import JsonParts, parse_json

COMPONENTS = ("normalizer", "pre_tokenizer", "post_processor", "decoder")


class TokenizerJson:
    """The parts of a tokenizer.json; vocabulary and merges are read natively, in place."""

    # Special tokens that there are without a file naming them.
    names: Mapping[str, str] = {}
    # Whether settings say if a beginning and an end are put round a text, whatever the class.
    puts_what_is_configured = False

    def __init__(self, path: str) -> None:
        """Scan the file; raises TokenizerError where it has no model."""
        self._parts = JsonParts(path)
        if "model" not in self._parts.members:
            raise TokenizerError(f"'{path}' has no 'model'.")
        self._model = self._parts.file.members(self._parts.members["model"][0])

    @property
    def components(self) -> dict[str, Any]:
        """Normalizer, pre-tokenizer, post-processor and decoder, objects or None."""
        return {name: self._parts.get(name) for name in COMPONENTS}

    @property
    def settings(self) -> dict[str, Any]:
        """Return the members of the model beside its vocabulary and merges."""
        return {
            name: parse_json(self._parts.file, span, self._parts.path)
            for name, span in self._model.items()
            if name not in ("vocab", "merges")
        }

    @cached_property
    def added_tokens(self) -> list[Mapping[str, Any]]:
        """The added tokens, each of which has a text; raises TokenizerError for another."""
        span = self._parts.members.get("added_tokens")
        spans = self._parts.file.elements(span[0]) if span else []
        told = [parse_json(self._parts.file, one, self._parts.path) for one in spans]
        return [token for token in told if content_of(token)]

    def load(self, core: TokenizerCore, kind: int) -> None:
        """Give a core of this kind of model its vocabulary and merges."""
        for name in ("vocab", "merges") if kind == Model.BPE else ("vocab",):
            if name not in self._model:
                raise TokenizerError(f"The model of '{self._parts.path}' has no '{name}'.")
        if kind == Model.Unigram:
            core.load_json_log_probabilities(self._parts.file, self._model["vocab"][0])
        else:
            core.load_json_vocabulary(self._parts.file, self._model["vocab"][0])
        if kind == Model.BPE:
            core.load_json_merges(self._parts.file, self._model["merges"][0])


def content_of(token: Any) -> str:
    """Return the text of an added token; raises TokenizerError where it has none."""
    content = token.get("content") if isinstance(token, dict) else None
    if not isinstance(content, str) or not content:
        raise TokenizerError(f"An added token has no text: {token!r:.120}.")
    return content
