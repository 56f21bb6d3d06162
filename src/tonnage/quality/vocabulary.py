"""Whether two models speak of the same tokens."""

from typing import TYPE_CHECKING

from tonnage.core.errors import AuditError
from tonnage.core.model_spec import ModelSpec

if TYPE_CHECKING:
    from tonnage.text.tokenizer import Tokenizer

Speaker = tuple[str, ModelSpec, "Tokenizer"]


def require_same(model: Speaker, reference: Speaker) -> None:
    """Raise AuditError unless both have as many logits, and the same text behind each token.

    Each is (name, specification, tokenizer). Control tokens and what only pads one of the
    vocabularies may be written differently: containers do.
    """
    (name, spec, tokenizer), (other_name, other_spec, other) = model, reference
    if spec.vocab_size != other_spec.vocab_size:
        raise AuditError(
            f"The vocabularies differ: {name} has {spec.vocab_size:,} tokens and {other_name} "
            f"{other_spec.vocab_size:,}; give a reference of the same vocabulary."
        )
    for token_id in range(min(tokenizer.vocab_size, other.vocab_size)):
        ours, theirs = tokenizer.token_bytes(token_id), other.token_bytes(token_id)
        if ours == theirs or tokenizer.is_control(token_id) or other.is_control(token_id):
            continue
        raise AuditError(
            f"The vocabularies differ: token {token_id:,} is {_shown(ours)} in {name} and "
            f"{_shown(theirs)} in {other_name}; give a reference of the same vocabulary."
        )


def _shown(token: bytes) -> str:
    return repr(token.decode("utf-8", "replace")[:40])
