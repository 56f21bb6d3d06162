"""Control tokens in untrusted text: they reach the model as plain text.

A chat template puts control tokens round the messages, so its output is encoded with control tokens
parsed. Who writes `<|im_end|>` into a message would end it there. So each control token in a
message is escaped by SENTINEL before the template runs: behind its first character, or in front of
its only one. Encoding takes the sentinels out again, stretch by plain stretch, and neither what
surrounds one nor what begins behind one becomes a control token.
"""

from collections.abc import Mapping
from typing import Any

from tonnage.core.errors import RequestError
from tonnage.text.tokenizer import SENTINEL, Tokenizer, num_bytes_of, utf8

_MAX_DEPTH = 64
_SENTINEL = SENTINEL.encode()


def escaped(value: Any, tokenizer: Tokenizer, depth: int = 0) -> Any:
    """Return `value` (JSON values) with the control tokens in all its texts escaped by SENTINEL.

    Raises RequestError for values nested too deeply.
    """
    if depth > _MAX_DEPTH:
        raise RequestError(f"A message nests values deeper than {_MAX_DEPTH}; flatten it.")
    if isinstance(value, str):
        return _escaped_text(value, tokenizer)
    if isinstance(value, Mapping):
        return {
            escaped(key, tokenizer, depth + 1): escaped(item, tokenizer, depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [escaped(item, tokenizer, depth + 1) for item in value]
    return value


def _escaped_text(text: str, tokenizer: Tokenizer) -> str:
    # A noncharacter has no business in a text; U+FFFD is what stands for such.
    text = text.replace(SENTINEL, "\ufffd")
    data = utf8(text)
    whole, begin = bytearray(), 0
    for at, token in tokenizer.control_places(data):
        first = num_bytes_of(token[0])
        cut = at + first if len(token) > first else at
        whole += data[begin:cut] + _SENTINEL
        begin = cut
    if not whole:
        return text
    whole += data[begin:]
    return whole.decode()
