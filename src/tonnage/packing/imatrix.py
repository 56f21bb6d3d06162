"""Importance matrices of llama.cpp: sums of squares per column, in an old form and as GGUF.

Source: llama.cpp, tools/imatrix (README). The old form is little-endian: the number of entries,
and for each the length of its name, the name, the number of calls, the number of values, and
float32 values that are means times calls. GGUF files have tensors NAME.in_sum2 and NAME.counts.
"""

import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tonnage.core.errors import PackError
from tonnage.formats.gguf import GgufFile

GGUF_MAGIC = b"GGUF"
_MAX_ENTRIES = 1 << 17
_MAX_NAME = 1 << 12
_SUMS, _COUNTS = ".in_sum2", ".counts"
Moments = npt.NDArray[np.float64]


class _Cursor:
    """Reads one value after another; PackError at the end of the file."""

    def __init__(self, data: bytes, path: Path) -> None:
        self._data, self._path, self.at = data, path, 0

    def take(self, size: int, what: str) -> bytes:
        if size < 0 or size > len(self._data) - self.at:
            raise PackError(
                f"{self._path} is no calibration, or cut short: it has {len(self._data):,} bytes, "
                f"and {what} needs {size:,} from byte {self.at:,} on."
            )
        self.at += size
        return self._data[self.at - size : self.at]

    def count(self, what: str, limit: int) -> int:
        (value,) = struct.unpack("<i", self.take(4, what))
        if not 0 < value <= limit:
            raise PackError(f"{self._path} is no calibration: {what} is {value:,}.")
        return int(value)


def read_dat(data: bytes, path: Path) -> dict[str, Moments]:
    """Return name -> mean squares of a file in the old form. Raises PackError."""
    cursor = _Cursor(data, path)
    found = {}
    for _ in range(cursor.count("the number of entries", _MAX_ENTRIES)):
        length = cursor.count("the length of a name", _MAX_NAME)
        name = cursor.take(length, "a name").decode("utf-8", "replace")
        (calls,) = struct.unpack("<i", cursor.take(4, "a number of calls"))
        size = cursor.count("a number of values", len(data))
        values = np.frombuffer(cursor.take(4 * size, f"the entry {name[:80]!r}"), "<f4")
        if calls > 0:
            found[name] = _checked(values.astype(np.float64) / calls, name, path)
    return found


def read_gguf(path: Path) -> dict[str, Moments]:
    """Return name -> mean squares of a GGUF file. Raises PackError, FileFormatError."""
    with GgufFile.open(path) as file:
        tensors = file.catalog.tensors
        if file.metadata.get("general.type") != "imatrix":
            raise PackError(f"{path} is a GGUF file, but no importance matrix.")
        found = {}
        for name, entry in tensors.items():
            stem = name.removesuffix(_SUMS)
            counts = tensors.get(stem + _COUNTS)
            if stem == name:
                continue
            if counts is None or {entry.format.name, counts.format.name} != {"F32"}:
                raise PackError(f"{path} has no counts in F32 for {name[:80]!r}; make it anew.")
            sums = _floats(file, name).reshape(-1, entry.shape[-1]).sum(axis=0)
            total = float(_floats(file, counts.name).sum())
            if total > 0:
                found[stem] = _checked(sums / total, name, path)
        return found


def _floats(file: GgufFile, name: str) -> Moments:
    return np.frombuffer(bytes(file.tensor_buffer(name)), "<f4").astype(np.float64)


def _checked(values: Moments, name: str, path: Path) -> Moments:
    if not (np.isfinite(values) & (values >= 0)).all():
        raise PackError(
            f"{path} holds values of {name[:80]!r} below 0 or not finite; make it anew."
        )
    return values
