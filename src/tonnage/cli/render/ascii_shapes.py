"""Shapes for terminals whose encoding has none: bars of # in place of blocks."""

import codecs

# The name of the error handler, for `reconfigure(errors=...)`.
ASCII_SHAPES = "tonnage.ascii_shapes"
_SHAPES = {
    **dict.fromkeys("█▉▊▋▌", "#"),
    **dict.fromkeys("▍▎▏", "-"),
    "░": ".",
    "┃": "|",
    "…": ".",
    **dict.fromkeys("‘’", "'"),
    **dict.fromkeys("“”", '"'),
    **dict.fromkeys("–—", "-"),
}


def _encoded(error: UnicodeError) -> tuple[str, int]:
    """Return what is written for characters that the encoding lacks, one for each."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    wrong = error.object[error.start : error.end]
    return "".join(_SHAPES.get(char, "?") for char in wrong), error.end


codecs.register_error(ASCII_SHAPES, _encoded)
