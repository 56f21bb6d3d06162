"""Tokens that mean something, as a model's files name them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tonnage.core.errors import TokenizerError

if TYPE_CHECKING:
    from tonnage.text.decoders import Decoder
    from tonnage.text.normalizers import Normalizer

CONTROL = 3  # token type of GGUF


@dataclass(frozen=True)
class Special:
    """What surrounds a text, and which tokens mean something.

    prefix, suffix: ids that add_special puts around a text. end_ids: tokens that the model's files
    name as ends. names: texts of tokens by their role (`bos_token`, `pad_token`, ...), as templates
    read them. normal_form: Unicode normal form that text is brought to ("NFC", ...), or None.
    normalizer: what is done to a text instead of that. strips_space: decoding drops the one space
    that encoding put in front. drops_first_marks: it drops all U+2581 of the first token. decoder:
    what makes bytes of tokens, None for the core. tool_template: the chat template for
    conversations with tools, None where there is one for all.
    """

    prefix: tuple[int, ...] = ()
    suffix: tuple[int, ...] = ()
    bos_id: int | None = None
    end_ids: frozenset[int] = frozenset()
    names: Mapping[str, str] = field(default_factory=dict)
    normal_form: str | None = None
    normalizer: "Normalizer | None" = None
    strips_space: bool = False
    drops_first_marks: bool = False
    decoder: "Decoder | None" = None
    chat_template: str | None = None
    tool_template: str | None = None

    def within(self, num_ids: int, num_rows: int) -> "Special":
        """Return this without ids that can never be met, each named in a warning.

        num_ids: of tokens and rows together; what is put round a text must be one of them.
        num_rows: of the embedding; no end can be drawn beyond it.
        """
        prefix, suffix = _below(self.prefix, num_ids), _below(self.suffix, num_ids)
        ends = frozenset(_below(self.end_ids, num_rows))
        begins = () if self.bos_id is None else (self.bos_id,)
        bos = next(iter(_below(begins, num_ids)), None)
        kept = {*prefix, *suffix, *ends, bos}
        for token_id in sorted({*self.prefix, *self.suffix, *self.end_ids, *begins} - kept):
            warn_outside("A special token", token_id, num_rows)
        return replace(self, prefix=prefix, suffix=suffix, end_ids=ends, bos_id=bos)


def warn_outside(name: str, token_id: int, size: int) -> None:
    """Log that the special token `name` is left out, because there are only `size` ids."""
    import logging  # a run has none of it

    logging.getLogger("tonnage.text").warning(
        "%s has the id %d, which a vocabulary of %s never holds; it is left out.",
        name,
        token_id,
        f"{size:,}",
    )


def _below(ids: Collection[int], bound: int) -> tuple[int, ...]:
    return tuple(one for one in ids if one < bound)


def require_ids(ids: Collection[object], name: str) -> list[int]:
    """Return `ids` as integers; raises TokenizerError naming the field they came from."""
    for value in ids:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 31:
            raise TokenizerError(f"'{name}' holds {value!r:.80}, which is no token id.")
    return [value for value in ids if isinstance(value, int)]
