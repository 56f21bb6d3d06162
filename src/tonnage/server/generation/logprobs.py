"""Log probabilities in OpenAI's two forms, of chats and of completions."""

from codecs import getincrementaldecoder
from collections.abc import Sequence
from typing import Any

import msgspec

from tonnage.engine.generation import TokenLogprob
from tonnage.text.tokenizer import Tokenizer

# In place of minus infinity, which JSON does not have.
_LEAST = -9999.0


def chat_logprobs(
    tokenizer: Tokenizer, entries: Sequence[TokenLogprob], num_top: int
) -> dict[str, Any]:
    """Return OpenAI's `logprobs` of a chat choice."""

    def entry(token_id: int, logprob: float) -> dict[str, Any]:
        data = tokenizer.token_bytes(token_id)
        return {
            "token": data.decode("utf-8", "replace"),
            "logprob": max(logprob, _LEAST),
            "bytes": list(data),
        }

    # Encoded one by one: as objects they would take several times as much.
    content = [
        _encoded(
            {
                **entry(one.token_id, one.logprob),
                "top_logprobs": [entry(*pair) for pair in one.top[:num_top]],
            }
        )
        for one in entries
    ]
    return {"content": content, "refusal": None}


def _encoded(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


class TextOffsets:
    """Where tokens begin in the text that they make up, in characters."""

    def __init__(self, tokenizer: Tokenizer, begin: int = 0) -> None:
        """begin: characters before the first token."""
        self._tokenizer = tokenizer
        self._decoder = getincrementaldecoder("utf-8")("replace")
        self._num_chars = begin

    def push(self, token_id: int) -> int:
        """Return where a token begins: at the character that its first byte is a part of.

        A token that is not shown begins where the next one does.
        """
        data = self._tokenizer.token_bytes(token_id)
        if not data or self._tokenizer.is_control(token_id):
            return self._num_chars
        self._num_chars += len(self._decoder.decode(data[:1]))
        is_open = bool(self._decoder.getstate()[0])
        begin = self._num_chars if is_open else self._num_chars - 1
        self._num_chars += len(self._decoder.decode(data[1:]))
        return begin


class TextLogprobs:
    """Writes OpenAI's `logprobs` of one completion, some entries after others.

    Where a prompt is echoed its tokens come first, and the very first has no log probability: the
    model has nothing to guess it from.
    """

    def __init__(
        self, tokenizer: Tokenizer, num_top: int, prompt: Sequence[int] = (), echo_chars: int = 0
    ) -> None:
        """prompt: whose tokens are lists of. echo_chars: characters before the completion."""
        self._tokenizer = tokenizer
        self._num_top = num_top
        self._first = prompt[:1]
        self._num_left = len(prompt)
        self._offsets = TextOffsets(tokenizer, 0 if prompt else echo_chars)
        self._echo_chars = echo_chars

    def write(self, entries: Sequence[TokenLogprob]) -> dict[str, Any]:
        """Return the next entries, as lists of one length."""
        lists: dict[str, list[Any]] = {
            "tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": [],
        }  # fmt: skip
        for token_id in self._first:
            self._add(lists, token_id, None, None)
        self._first = ()
        for one in entries:
            self._add(lists, one.token_id, max(one.logprob, _LEAST), self._tops(one))
        return lists

    def _add(
        self, lists: dict[str, list[Any]], token_id: int, logprob: float | None, tops: Any
    ) -> None:
        lists["text_offset"].append(self._offsets.push(token_id))
        lists["tokens"].append(self._shown(token_id))
        lists["token_logprobs"].append(logprob)
        lists["top_logprobs"].append(tops)
        self._num_left -= 1
        if self._num_left == 0:
            self._offsets = TextOffsets(self._tokenizer, self._echo_chars)

    def _tops(self, one: TokenLogprob) -> msgspec.Raw:
        """Return the best, and the token itself; of several that look alike the likeliest."""
        shown: dict[str, float] = {}
        for token_id, logprob in (*one.top[: self._num_top], (one.token_id, one.logprob)):
            shown.setdefault(self._shown(token_id), max(logprob, _LEAST))
        return _encoded(shown)

    def _shown(self, token_id: int) -> str:
        return self._tokenizer.token_bytes(token_id).decode("utf-8", "replace")
