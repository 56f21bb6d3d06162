"""Tokens that mean something, as a model's files name them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from tonnage.core.errors import TokenizerError

CONTROL = 3  # token type of GGUF


@dataclass(frozen=True)
class Special:
    """What surrounds a text, and which tokens mean something.

    prefix, suffix: ids that add_special puts around a text. end_ids: tokens that the model's files
    name as ends. names: texts of tokens by their role (`bos_token`, `pad_token`, ...), as templates
    read them. normal_form: Unicode normal form that text is brought to ("NFC", ...), or None.
    strips_space: decoding drops the one space that encoding put in front. tool_template: the chat
    template for conversations with tools, None where there is one for all.
    """

    prefix: tuple[int, ...] = ()
    suffix: tuple[int, ...] = ()
    bos_id: int | None = None
    end_ids: frozenset[int] = frozenset()
    names: Mapping[str, str] = field(default_factory=dict)
    normal_form: str | None = None
    strips_space: bool = False
    chat_template: str | None = None
    tool_template: str | None = None


def require_ids(ids: Collection[object], name: str) -> list[int]:
    """Return `ids` as integers; raises TokenizerError naming the field they came from."""
    for value in ids:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 31:
            raise TokenizerError(f"'{name}' holds {value!r:.80}, which is no token id.")
    return [value for value in ids if isinstance(value, int)]
