"""Formats of weights that are stated, and names of mixes."""

from tonnage.blocks.head import SENSITIVITY
from tonnage.core.block_format import FLOAT_FORMATS
from tonnage.core.digest import short_digest
from tonnage.core.errors import RequestError
from tonnage.core.mix import Formats
from tonnage.core.model_spec import ModelSpec

PRECISIONS = {"8bit": "Q8_0", "4bit": "Q4_1"}


def precision_formats(spec: ModelSpec, precision: str | None) -> Formats:
    """Return what a stated precision makes of the float matrices; None makes nothing.

    Raises RequestError for a precision other than `8bit` and `4bit`.
    """
    if precision is None:
        return ()
    if precision not in PRECISIONS:
        raise RequestError(
            f"The precision {precision!r} is unknown; use 8bit or 4bit, or leave it out."
        )
    # Tables and head are the most sensitive to 4 bits.
    return tuple(
        (name, "Q8_0" if name in SENSITIVITY else PRECISIONS[precision])
        for name, entry in sorted(spec.weights.items())
        if len(entry.shape) > 1 and entry.format.name in FLOAT_FORMATS
    )


def mix_id(spec: ModelSpec, formats: Formats) -> str:
    """Return what identifies the weights of `spec` in `formats` (name, format).

    Names that keep their own format make no difference; empty for the file as it stands.
    """
    changed = sorted((n, f) for n, f in formats if f != spec.weights[n].format.name)
    if not changed:
        return ""
    return short_digest(";".join(f"{n}={f}" for n, f in changed).encode())
