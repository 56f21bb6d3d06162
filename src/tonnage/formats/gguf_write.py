"""Writing GGUF headers: pairs of another file byte for byte, and pairs of our own.

Source: the GGUF specification, version 3 (ggml-org/ggml, docs/gguf.md).
"""

import os
import struct
from collections.abc import Iterable, Mapping, Sequence

from tonnage.core.block_format import BlockFormat
from tonnage.core.record import record
from tonnage.formats.gguf import GgufFile
from tonnage.formats.gguf_cursor import ARRAY, FIXED, STRING, U32, U64, GgufArray

VERSION = 3
ALIGNMENT = 32


@record
class NewTensor:
    """A tensor to write: shape as `TensorEntry` has it."""

    name: str
    format: BlockFormat
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of its data."""
        return self.format.nbytes(self.shape)

    @property
    def padded_bytes(self) -> int:
        """The same up to the next multiple of the alignment."""
        return padded(self.nbytes)


def padded(nbytes: int) -> int:
    """Return the next multiple of the alignment."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def text_value(text: str) -> bytes:
    """Return type and value of a string."""
    return U32.pack(STRING) + _string(text.encode())


def u32_value(number: int) -> bytes:
    """Return type and value of a uint32."""
    return U32.pack(4) + U32.pack(number)


def raw_values(file: GgufFile) -> dict[str, bytes]:
    """Return key -> type and value of all metadata, as the file has them."""
    found = {}
    with open(file.path, "rb") as stream:
        data = os.pread(stream.fileno(), _header_bytes(file), 0)
    at = 24
    for key, value in file.metadata.items():
        at += 8 + len(key.encode())
        (kind,) = U32.unpack_from(data, at)
        end = at + 4 + _value_bytes(data, at + 4, kind, value)
        found[key] = data[at:end]
        at = end
    return found


def _header_bytes(file: GgufFile) -> int:
    own = [one.offset for one in file.catalog.tensors.values() if one.file == file.path]
    return min(own, default=os.path.getsize(file.path))


def _value_bytes(data: bytes, at: int, kind: int, value: object) -> int:
    if isinstance(value, GgufArray):
        assert kind == ARRAY
        return 12 + value.nbytes
    if kind == STRING:
        return 8 + int(U64.unpack_from(data, at)[0])
    return FIXED[kind].size


def header_of(values: Mapping[str, bytes], tensors: Sequence[NewTensor]) -> bytes:
    """Return everything before the tensors' data, which follow in order, each padded."""
    parts = [b"GGUF", struct.pack("<IQQ", VERSION, len(tensors), len(values))]
    parts += [_string(key.encode()) + value for key, value in values.items()]
    parts += _rows(tensors)
    data = b"".join(parts)
    return data + bytes(padded(len(data)) - len(data))


def _rows(tensors: Iterable[NewTensor]) -> Iterable[bytes]:
    offset = 0
    for one in tensors:
        sizes = b"".join(U64.pack(size) for size in reversed(one.shape))
        place = U32.pack(one.format.ggml_type) + U64.pack(offset)
        yield _string(one.name.encode()) + U32.pack(len(one.shape)) + sizes + place
        offset += one.padded_bytes


def _string(raw: bytes) -> bytes:
    return U64.pack(len(raw)) + raw
