"""GGUF files: metadata and tensor catalog from the header, by mapping the file.

Source: the GGUF specification, versions 2 and 3 (ggml-org/ggml, docs/gguf.md).
"""

import mmap
import os
from contextlib import suppress
from types import TracebackType

from tonnage.core.checkpoint import Catalog
from tonnage.core.errors import FileFormatError, ModelNotFoundError
from tonnage.formats.gguf_cursor import (
    MAX_NAME_BYTES,
    U32,
    U64,
    GgufArray,
    HeaderCursor,
    Scalar,
    shown,
)
from tonnage.formats.gguf_parts import check_part, joined, paths_of_parts, stated_parts
from tonnage.formats.gguf_tensors import build_catalog, read_tensor_infos

__all__ = ["GgufArray", "GgufFile", "Scalar"]

MAGIC = b"GGUF"
DEFAULT_ALIGNMENT = 32
# Far above any real model; they keep a hostile file from filling memory with table rows.
MAX_TENSORS = 1 << 17
MAX_METADATA = 1 << 16
# The smallest metadata pair is key length, value type and one byte; the smallest table row has
# name length, number of dimensions, type and offset.
_MIN_PAIR_BYTES = 8 + 4 + 1
_MIN_ROW_BYTES = 8 + 4 + 4 + 8


class GgufFile:
    """An open GGUF model, of one file or several parts, whose headers were read completely.

    path, version: of the file, or of the first part. metadata: key -> scalar or lazy array, in file
    order; the first part's. catalog: all tensors of all parts with absolute offsets and row-major
    shapes. Arrays and buffers are valid until `close`.
    """

    def __init__(self, data: mmap.mmap, path: str) -> None:
        """Read the header of the mapped file `data` alone; use `open`.

        Raises FileFormatError and UnsupportedTypeError.
        """
        self._data = {path: data}
        self.path = path
        cursor = HeaderCursor(data, path)
        self.version = _read_version(cursor)
        num_tensors, num_metadata = _read_counts(cursor)
        self.metadata = _read_metadata(cursor, num_metadata)
        alignment = _alignment(cursor, self.metadata)
        infos = read_tensor_infos(cursor, num_tensors)
        self.catalog: Catalog = build_catalog(cursor, infos, alignment)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "GgufFile":
        """Map the file at `path` and read its header; tensor data is not touched.

        Of a model in parts, any one of them is given and all are opened. Raises ModelNotFoundError
        when there is no file or a part is missing, FileFormatError when one cannot be read, is
        malformed or does not belong to the others, UnsupportedTypeError when a tensor's block type
        is not implemented.
        """
        name = os.fspath(path)
        file = cls._open_one(name)
        try:
            count = stated_parts(name, file.metadata)
            return file if count == 1 else cls._join(file, paths_of_parts(name, count))
        except BaseException:
            file.close()
            raise

    @classmethod
    def _open_one(cls, path: str) -> "GgufFile":
        data = _map(path)
        try:
            return cls(data, path)
        except BaseException:
            data.close()
            raise

    @classmethod
    def _join(cls, given: "GgufFile", paths: list[str]) -> "GgufFile":
        """Return the first part with the tensors of all; `given` is one of them."""
        parts: list[GgufFile] = []
        try:
            for path in paths:
                parts.append(given if path == given.path else cls._open_one(path))
                check_part(path, parts[-1].metadata, len(parts) - 1, parts[0].metadata)
            first = parts[0]
            stated_tensors = first.metadata.get("split.tensors.count")
            first.catalog = joined([part.catalog for part in parts], stated_tensors)
            first._data = {path: data for part in parts for path, data in part._data.items()}
        except BaseException:
            for part in parts:
                part.close()
            raise
        return first

    def tensor_buffer(self, name: str) -> memoryview:
        """Return the stored bytes of tensor `name`, without a copy.

        While the view lives its file stays mapped. Raises KeyError for an unknown name.
        """
        entry = self.catalog.tensors[name]
        return memoryview(self._data[entry.file])[entry.offset : entry.offset + entry.nbytes]

    def close(self) -> None:
        """Unmap the files; with buffers still alive this happens when the last of them goes."""
        for data in self._data.values():
            # mmap refuses to close under a view, which keeps the mapping alive by itself.
            with suppress(BufferError):
                data.close()

    def __enter__(self) -> "GgufFile":
        """Return the file itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self.close()


def _map(path: str) -> mmap.mmap:
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size == 0:
                raise FileFormatError(f"{path} is empty; download it again.")
            return mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        raise ModelNotFoundError(f"{path} does not exist; check the path.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FileFormatError(f"{path} cannot be read: {reason}.") from None


def _read_version(cursor: HeaderCursor) -> int:
    start = cursor.need(len(MAGIC), "the magic number")
    magic = cursor.data[start : cursor.pos]
    if magic != MAGIC:
        raise cursor.error(
            f"starts with {magic!r}, but a GGUF file starts with {MAGIC!r}; "
            "it is another kind of file or damaged."
        )
    version = cursor.fixed(U32, "the version number")
    if version in (2, 3):
        return version
    if version in (2 << 24, 3 << 24):
        raise cursor.error("is a big-endian GGUF file; convert it to little-endian.")
    raise cursor.error(f"has GGUF version {version:,}; 2 and 3 are read, so convert it anew.")


def _read_counts(cursor: HeaderCursor) -> tuple[int, int]:
    num_tensors = cursor.fixed(U64, "the number of tensors")
    num_metadata = cursor.fixed(U64, "the number of metadata pairs")
    left = cursor.size - cursor.pos
    for what, count, limit, row_bytes in (
        ("tensors", num_tensors, MAX_TENSORS, _MIN_ROW_BYTES),
        ("metadata pairs", num_metadata, MAX_METADATA, _MIN_PAIR_BYTES),
    ):
        if count > limit or count * row_bytes > left:
            raise cursor.error(
                f"states {count:,} {what}, but its {cursor.size:,} bytes hold at most "
                f"{min(limit, left // row_bytes):,}; the file is cut short or damaged, "
                "download it again."
            )
    return num_tensors, num_metadata


def _read_metadata(cursor: HeaderCursor, count: int) -> dict[str, Scalar | GgufArray]:
    metadata: dict[str, Scalar | GgufArray] = {}
    for index in range(count):
        key = cursor.string(f"metadata key {index:,}", MAX_NAME_BYTES)
        if key in metadata:
            raise cursor.error(f"has the metadata key {shown(key)} twice; the file is damaged.")
        kind = cursor.fixed(U32, f"the value type of {shown(key)}")
        metadata[key] = cursor.value(kind, key)
    return metadata


def _alignment(cursor: HeaderCursor, metadata: dict[str, Scalar | GgufArray]) -> int:
    value = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1 or value & (value - 1):
        found = shown(value) if isinstance(value, str) else value
        raise cursor.error(
            f"states the alignment {found}, but it has to be a power of two; the file is damaged."
        )
    return value
