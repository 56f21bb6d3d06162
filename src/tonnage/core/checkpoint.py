"""A checkpoint seen from its headers: which tensors lie where."""

from collections.abc import Mapping

from tonnage.core.block_format import BlockFormat
from tonnage.core.record import record


@record
class TensorEntry:
    """One tensor in a file.

    shape: row-major, last axis contiguous (a GGUF `ne` reversed). offset: absolute, in bytes, from
    the start of `file`. nbytes: equals `format.nbytes(shape)`.
    """

    name: str
    format: BlockFormat
    shape: tuple[int, ...]
    file: str
    offset: int
    nbytes: int


@record
class Catalog:
    """All tensors of a checkpoint by their names in the file, and the files' total size."""

    tensors: Mapping[str, TensorEntry]
    files: tuple[str, ...]
    file_bytes: int
