"""From a prompt in any form to token ids: text, ids, or messages in the model's chat template."""

import operator
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypedDict, Unpack

from tonnage.core.errors import ContextLengthError, RequestError
from tonnage.text.template import ChatTemplate
from tonnage.text.tokenizer import Tokenizer
from tonnage.text.untrusted import escaped

Message = Mapping[str, Any]


class PromptEnd(TypedDict, total=False):
    """What stands at the end of a conversation's prompt, in transformers' words.

    add_generation_prompt: the beginning of a response (True). continue_final_message: the text of
    the last message and nothing behind it, so that the completion continues it (False).
    """

    add_generation_prompt: bool
    continue_final_message: bool


class Prompts:
    """Encodes for one model; a template is compiled with the first conversation that needs it."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, own_bytes: Callable[[], int]) -> None:
        """vocab_size: of the model. own_bytes: what the process holds; its growth is noted."""
        self.template_bytes = 0  # what templates have grown the process by
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._own_bytes = own_bytes
        self._templates: dict[str | None, ChatTemplate] = {}

    def encode(
        self, prompt: str | Sequence[int] | Sequence[Message], *, raw: bool
    ) -> Sequence[int]:
        """Return the token ids of a prompt in any form.

        Raises RequestError for an empty one and for ids that the model does not know.

        An array of ids is returned as it is: completions of the same prompt share it.
        """
        tokens: Sequence[int]
        if isinstance(prompt, array):
            tokens = prompt
        elif isinstance(prompt, str):
            if raw or self._tokenizer.chat_template is None:
                tokens = self._tokenizer.encode(prompt, add_special=True, parse_special=raw)
            else:
                tokens = self.encode_chat([{"role": "user", "content": prompt}])
        else:
            ids, messages = _parts(prompt)
            tokens = self.encode_chat(messages) if messages else ids
        if not tokens:
            raise RequestError("The prompt is empty; give it at least one token.")
        # Also of texts: a tokenizer may know more tokens than the embedding has rows.
        self._check_ids(tokens)
        return tokens

    def encode_chat(
        self,
        messages: Sequence[Message],
        variables: Mapping[str, Any] | None = None,
        **end: Unpack[PromptEnd],
    ) -> list[int]:
        """Return the token ids of `messages` in the model's chat template; one thread at a time.

        variables: more names for the template, such as `tools`. A model that has a template for
        tools beside its usual one gets it where there are any. Control tokens that are written in
        either are plain text. end: what stands at the end. Raises ChatTemplateError, RequestError.
        """
        source = self._source_for((variables or {}).get("tools"))
        is_new = source not in self._templates
        before = self._own_bytes() if is_new else 0
        try:
            if is_new:
                self._templates[source] = ChatTemplate(source)
            prompt = self._templates[source].render(
                escaped(messages, self._tokenizer),
                **end,
                variables={**self._tokenizer.names, **escaped(variables or {}, self._tokenizer)},
            )
        finally:
            if is_new:
                # Also where the template refuses: what it has loaded stays.
                self.template_bytes += max(0, self._own_bytes() - before)
        return self._tokenizer.encode(
            prompt, add_special=False, parse_special=True, has_sentinels=True
        )

    def _source_for(self, tools: object) -> str | None:
        """Return the template for a conversation with these tools."""
        if tools is not None and self._tokenizer.tool_template is not None:
            return self._tokenizer.tool_template
        return self._tokenizer.chat_template

    def _check_ids(self, tokens: Sequence[int]) -> None:
        # The extremes first: of an array that was checked before they take microseconds.
        if not tokens or (min(tokens) >= 0 and max(tokens) < self._vocab_size):
            return
        wrong = next(t for t in tokens if not 0 <= t < self._vocab_size)
        size = f"{self._vocab_size:,}"
        raise RequestError(f"Token id {wrong} is not in the vocabulary of {size} tokens.")


def _parts(prompt: Sequence[int] | Sequence[Message]) -> tuple[list[int], list[Message]]:
    """Return the ids or the messages that a prompt consists of. Raises RequestError."""
    ways = "give a text, token ids, or messages with `role` and `content`"
    if isinstance(prompt, bytes | bytearray | Mapping) or not isinstance(prompt, Iterable):
        raise RequestError(f"The prompt is of type {type(prompt).__name__}; {ways}.")
    items: list[object] = list(prompt)
    # Numbers of other libraries have this method, as ours do.
    ids = [operator.index(item) for item in items if hasattr(item, "__index__")]
    messages = [item for item in items if isinstance(item, Mapping)]
    if len(items) not in (len(ids), len(messages)):
        kinds = ", ".join(dict.fromkeys(type(item).__name__ for item in items))
        raise RequestError(f"The parts of the prompt are of types {kinds:.80}; {ways}.")
    return ids, messages


def require_context(num_tokens: int, context_tokens: int) -> None:
    """Raise ContextLengthError unless a prompt leaves a position for its completion."""
    if num_tokens >= context_tokens:
        raise ContextLengthError(
            f"The prompt has {num_tokens:,} tokens and the context holds {context_tokens:,}, one "
            f"of them for the completion; shorten it or open the model with --context "
            f"{num_tokens + 256}."
        )
