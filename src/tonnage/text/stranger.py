"""Control tokens in the words of a stranger: they reach the model as plain text.

A chat template puts control tokens round the messages, so its output is encoded with control tokens
parsed. Whoever writes `<|im_end|>` into a message would end it there. So each control token in a
message is broken by MARK before the template runs; encoding takes the marks out again, piece by
plain piece, and what surrounds a mark never becomes a control token.
"""

from collections.abc import Mapping
from typing import Any

from tonnage.core.errors import RequestError
from tonnage.text.tokenizer import MARK, Tokenizer, num_bytes_of, utf8

_MAX_DEPTH = 64
_MARK = MARK.encode()


def broken(value: Any, tokenizer: Tokenizer, depth: int = 0) -> Any:
    """Return `value` (JSON values) with the control tokens in all its texts broken by MARK.

    Raises RequestError for a control token of a single character, and for values nested too deeply.
    """
    if depth > _MAX_DEPTH:
        raise RequestError(f"A message nests values deeper than {_MAX_DEPTH}; flatten it.")
    if isinstance(value, str):
        return _broken_text(value, tokenizer)
    if isinstance(value, Mapping):
        return {
            broken(key, tokenizer, depth + 1): broken(item, tokenizer, depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [broken(item, tokenizer, depth + 1) for item in value]
    return value


def _broken_text(text: str, tokenizer: Tokenizer) -> str:
    # A noncharacter has no business in a text; U+FFFD is what stands for such.
    text = text.replace(MARK, "\ufffd")
    data = utf8(text)
    whole, begin = bytearray(), 0
    for at, token in tokenizer.control_places(data):
        first = num_bytes_of(token[0])
        if len(token) <= first:
            raise RequestError(
                f"A message holds {token.decode('utf-8', 'replace')!r}, a control token of this "
                "model that cannot be escaped; leave it out."
            )
        whole += data[begin : at + first] + _MARK
        begin = at + first
    if not begin:
        return text
    whole += data[begin:]
    return whole.decode()
