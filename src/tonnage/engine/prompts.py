"""From a prompt in any form to token ids: text, ids, or messages in the model's chat template."""

from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tonnage.core.errors import ContextLengthError, RequestError
from tonnage.text.template import ChatTemplate
from tonnage.text.tokenizer import Tokenizer
from tonnage.text.untrusted import escaped

Message = Mapping[str, Any]


class Prompts:
    """Encodes for one model; its template is compiled with the first conversation."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, own_bytes: Callable[[], int]) -> None:
        """vocab_size: of the model. own_bytes: what the process holds; its growth is noted."""
        self.template_bytes = 0  # what the template has grown the process by
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._own_bytes = own_bytes
        self._template: ChatTemplate | None = None

    def encode(
        self, prompt: str | Sequence[int] | Sequence[Message], *, raw: bool
    ) -> Sequence[int]:
        """Return the token ids of a prompt in any form. Raises RequestError for an empty one.

        An array of ids is returned as it is: completions of the same prompt share it.
        """
        tokens: Sequence[int]
        if isinstance(prompt, array):
            tokens = prompt
            self._check_ids(tokens)
        elif isinstance(prompt, str):
            if raw or self._tokenizer.chat_template is None:
                tokens = self._tokenizer.encode(prompt, add_special=True, parse_special=raw)
            else:
                tokens = self.encode_chat([{"role": "user", "content": prompt}])
        elif all(isinstance(item, int) for item in prompt):
            tokens = [int(item) for item in prompt if isinstance(item, int)]
            self._check_ids(tokens)
        else:
            tokens = self.encode_chat([item for item in prompt if not isinstance(item, int)])
        if not tokens:
            raise RequestError("The prompt is empty; give it at least one token.")
        return tokens

    def encode_chat(
        self, messages: Sequence[Message], variables: Mapping[str, Any] | None = None
    ) -> list[int]:
        """Return the token ids of `messages` in the model's chat template; one thread at a time.

        variables: more names for the template, such as `tools`. Control tokens that are written in
        either are plain text. Raises ChatTemplateError, RequestError.
        """
        if self._template is not None:
            return self._encoded(self._template, messages, variables)
        before = self._own_bytes()
        try:
            self._template = ChatTemplate(self._tokenizer.chat_template)
            return self._encoded(self._template, messages, variables)
        finally:
            # Also where the template refuses: what it has loaded stays.
            self.template_bytes += max(0, self._own_bytes() - before)

    def _encoded(
        self,
        template: ChatTemplate,
        messages: Sequence[Message],
        variables: Mapping[str, Any] | None,
    ) -> list[int]:
        tokenizer = self._tokenizer
        end_id = next(iter(tokenizer.eos_ids)) if len(tokenizer.eos_ids) == 1 else None
        prompt = template.render(
            escaped(messages, tokenizer),
            variables=escaped(variables or {}, tokenizer),
            bos_token=_text_of(tokenizer, tokenizer.bos_id),
            eos_token=_text_of(tokenizer, end_id),
        )
        return tokenizer.encode(prompt, add_special=False, parse_special=True, has_sentinels=True)

    def _check_ids(self, tokens: Sequence[int]) -> None:
        # The extremes first: of an array that was checked before they take microseconds.
        if not tokens or (min(tokens) >= 0 and max(tokens) < self._vocab_size):
            return
        wrong = next(t for t in tokens if not 0 <= t < self._vocab_size)
        size = f"{self._vocab_size:,}"
        raise RequestError(f"Token id {wrong} is not in the vocabulary of {size} tokens.")


def require_context(num_tokens: int, context_tokens: int) -> None:
    """Raise ContextLengthError unless a prompt leaves a position for its completion."""
    if num_tokens >= context_tokens:
        raise ContextLengthError(
            f"The prompt has {num_tokens:,} tokens and the context holds {context_tokens:,}, one "
            f"of them for the completion; shorten it or open the model with --context "
            f"{num_tokens + 256}."
        )


def _text_of(tokenizer: Tokenizer, token_id: int | None) -> str:
    return "" if token_id is None else tokenizer.token_bytes(token_id).decode("utf-8", "replace")
