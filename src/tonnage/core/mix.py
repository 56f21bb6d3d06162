"""A format for each matrix: what the file has, or what loading can quantize to."""

from tonnage.core.block_format import BY_NAME
from tonnage.core.errors import RequestError
from tonnage.core.model_spec import ModelSpec

Formats = tuple[tuple[str, str], ...]

# What loading can quantize to, from the most bits down; the second for columns that are no multiple
# of 256, where no format below 4.5 bits exists.
SUPER_FORMATS = ("Q8_0", "Q6_K", "Q5_K", "Q4_K", "IQ4_XS", "Q3_K", "Q2_K")
PLAIN_FORMATS = ("Q8_0", "Q5_1", "Q5_0", "Q4_1", "IQ4_NL")
TARGETS = tuple(dict.fromkeys(SUPER_FORMATS + PLAIN_FORMATS))
# Loading fills the last block of a row up with zeros where blocks are that small.
FILLED_BLOCK = 32


def lower_formats(cols: int) -> tuple[str, ...]:
    """Return the formats that rows of `cols` elements can be quantized to, most bits first."""
    return SUPER_FORMATS if cols % 256 == 0 else PLAIN_FORMATS


def _holds(fmt: str, cols: int) -> bool:
    size = BY_NAME[fmt].block_elems
    return size == FILLED_BLOCK or cols % size == 0


def check_formats(spec: ModelSpec, formats: Formats) -> None:
    """Raise RequestError for a name that is no matrix, or a format that it cannot be loaded as."""
    for name, fmt in formats:
        entry = spec.weights.get(name)
        if entry is None or len(entry.shape) < 2:
            raise RequestError(
                f"A format was given for {name!r}, which is no matrix of this model."
            )
        cols = entry.shape[-1]
        may = (entry.format.name, *(f for f in TARGETS if _holds(f, cols)))
        if fmt not in may:
            raise RequestError(
                f"{name} has rows of {cols:,} and cannot be loaded as {fmt}; use one of "
                f"{', '.join(dict.fromkeys(may))}."
            )
