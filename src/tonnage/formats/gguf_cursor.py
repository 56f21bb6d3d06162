"""A bounds-checked cursor over a mapped GGUF header, and the value types it reads.

Source: the GGUF specification, `gguf_metadata_value_type` (ggml-org/ggml, docs/gguf.md).
"""

import mmap
import struct

from tonnage import _native
from tonnage.core.errors import FileFormatError
from tonnage.core.record import record

TYPE_NAMES = (
    "uint8", "int8", "uint16", "int16", "uint32", "int32", "float32",
    "bool", "string", "array", "uint64", "int64", "float64",
)  # fmt: skip
STRING = TYPE_NAMES.index("string")
ARRAY = TYPE_NAMES.index("array")
BOOL = TYPE_NAMES.index("bool")
_CODES = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}
FIXED = {number: struct.Struct("<" + code) for number, code in _CODES.items()}
U32 = FIXED[4]
U64 = FIXED[10]

MAX_NAME_BYTES = 65_535
MAX_STRING_BYTES = 64 << 20  # of a header's keys, values and names, all together

Scalar = bool | int | float | str


def shown(name: str) -> str:
    """Return `name` quoted for a message: control characters escaped, at most 80 characters."""
    return repr(name if len(name) <= 80 else name[:77] + "...")


@record
class GgufArray:
    """An array in a GGUF header, left in the file until asked for.

    element_type: one of `uint8 int8 uint16 int16 uint32 int32 float32 bool string uint64 int64
    float64`. offset, nbytes: where the elements lie in the file (behind type and count); strings
    lie there as a little-endian u64 length and that many bytes each. Usable until its file closes.
    """

    key: str
    element_type: str
    count: int
    offset: int
    nbytes: int
    _file: mmap.mmap

    def __len__(self) -> int:
        """Return the number of elements."""
        return self.count

    def buffer(self) -> memoryview:
        """Return the raw bytes of the elements, without a copy.

        While the view lives the file stays mapped, even after `GgufFile.close`.
        """
        return memoryview(self._file)[self.offset : self.offset + self.nbytes]

    def to_list(self) -> list[bool] | list[int] | list[float] | list[str]:
        """Return the elements as Python values.

        Raises FileFormatError when a string is not UTF-8 or a bool is neither 0 nor 1.
        """
        number = TYPE_NAMES.index(self.element_type)
        if number == STRING:
            return self._strings()
        with self.buffer() as raw:
            values = list(struct.unpack(f"<{self.count}{_CODES[number]}", raw))
        if number != BOOL:
            return values
        if any(value > 1 for value in values):
            raise FileFormatError(f"Array {shown(self.key)} holds a bool that is neither 0 nor 1.")
        return [value == 1 for value in values]

    def to_bytes_list(self) -> list[bytes]:
        """Return the elements of a string array undecoded; some vocabularies are not UTF-8.

        Raises FileFormatError when the elements are not strings.
        """
        if self.element_type != "string":
            raise FileFormatError(
                f"Array {shown(self.key)} holds {self.element_type} elements where strings belong."
            )
        data, at, found = self._file, self.offset, []
        for _ in range(self.count):
            (length,) = U64.unpack_from(data, at)
            at += 8
            found.append(data[at : at + length])
            at += length
        return found

    def _strings(self) -> list[str]:
        found = self.to_bytes_list()
        try:
            return [raw.decode() for raw in found]
        except UnicodeDecodeError:
            bad = next(i for i, raw in enumerate(found) if not _is_utf8(raw))
            raise FileFormatError(
                f"String {bad:,} of array {shown(self.key)} is not valid UTF-8: "
                f"{found[bad][:40]!r}; the file is damaged, download it again."
            ) from None


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


class HeaderCursor:
    """Reads one value after the other from a mapped file; every read is checked against its end.

    All methods raise FileFormatError with the offsets when the file is too short or a value is
    malformed; `what` names the value in that message.
    """

    def __init__(self, data: mmap.mmap, path: str) -> None:
        """Start at byte 0 of `data`; `path` is for messages."""
        self.data = data
        self.path = path
        self.size = len(data)
        self.pos = 0
        self._num_string_bytes = 0

    def error(self, problem: str) -> FileFormatError:
        """Return an error about this file; `problem` continues the sentence after the path."""
        return FileFormatError(f"{self.path} {problem}")

    def need(self, num_bytes: int, what: str) -> int:
        """Return the current offset and advance by `num_bytes`, which must lie in the file."""
        start = self.pos
        if num_bytes > self.size - start:
            raise self.error(
                f"ends at byte {self.size:,} but {what} needs bytes up to "
                f"{start + num_bytes:,}; the file is cut short or damaged, download it again."
            )
        self.pos = start + num_bytes
        return start

    def fixed(self, layout: struct.Struct, what: str) -> int:
        """Return one integer or float of `layout`."""
        value: int = layout.unpack_from(self.data, self.need(layout.size, what))[0]
        return value

    def string(self, what: str, max_bytes: int) -> str:
        """Return a length-prefixed UTF-8 string of at most `max_bytes`, and no more than are left.

        All strings of a header are kept, so they share MAX_STRING_BYTES.
        """
        start = self.pos + U64.size
        raw = self._string_bytes(what, max_bytes)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise self.error(
                f"holds bytes at {start:,} that are not UTF-8 where {what} belongs "
                f"({raw[:40]!r}); the file is damaged, download it again."
            ) from None

    def _string_bytes(self, what: str, max_bytes: int) -> bytes:
        length = self.fixed(U64, f"the length of {what}")
        start = self.pos
        limit = min(max_bytes, MAX_STRING_BYTES - self._num_string_bytes)
        if length > limit and length <= self.size - start:
            raise self.error(
                f"states {length:,} bytes for {what} at byte {start:,}, over the limit of "
                f"{limit:,}; the file is damaged or hostile, take it from another source."
            )
        self._num_string_bytes += length
        return self.data[self.need(length, what) : self.pos]

    def value(self, kind: int, key: str) -> Scalar | GgufArray:
        """Return the metadata value of type number `kind` that belongs to `key`.

        Names and descriptions are not UTF-8 in some files; what is not decodes to U+FFFD.
        """
        what = f"the value of {shown(key)}"
        if kind == STRING:
            return self._string_bytes(what, MAX_STRING_BYTES).decode(errors="replace")
        if kind == ARRAY:
            return self._array(key, what)
        if kind not in FIXED:
            raise self.error(
                f"gives {shown(key)} the value type {kind}, but GGUF has only 0 to "
                f"{len(TYPE_NAMES) - 1}; the file is damaged, download it again."
            )
        number = self.fixed(FIXED[kind], what)
        if kind != BOOL:
            return number
        if number > 1:
            raise self.error(f"gives {shown(key)} the bool {number}, which is neither 0 nor 1.")
        return number == 1

    def _array(self, key: str, what: str) -> GgufArray:
        kind = self.fixed(U32, f"the element type of {shown(key)}")
        count = self.fixed(U64, f"the length of array {shown(key)}")
        if kind == ARRAY or kind >= len(TYPE_NAMES):
            found = "arrays" if kind == ARRAY else f"elements of unknown type {kind}"
            raise self.error(
                f"has {found} inside array {shown(key)}; only scalars and strings may be, "
                "so the file is damaged or from another tool."
            )
        start = self.pos
        if kind == STRING:
            self._skip_strings(count, what)
        else:
            self.need(count * FIXED[kind].size, what)
        return GgufArray(key, TYPE_NAMES[kind], count, start, self.pos - start, self.data)

    def _skip_strings(self, count: int, what: str) -> None:
        start = self.pos
        self.need(8 * count, what)
        end = _native.scan_strings(self.data, start, count)
        if end < 0:
            raise self.error(
                f"ends at byte {self.size:,}, inside string {-1 - end:,} of {count:,} in {what}; "
                "the file is cut short or damaged, download it again."
            )
        self.pos = end
