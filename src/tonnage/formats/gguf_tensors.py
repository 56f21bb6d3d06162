"""The tensor table of a GGUF file, checked and turned into a catalog.

Source: the GGUF specification, `gguf_tensor_info_t` (ggml-org/ggml, docs/gguf.md), and the type
numbers of `enum ggml_type` in ggml.h.
"""

from collections import Counter
from itertools import pairwise

from tonnage.core.block_format import ALL_FORMATS, BY_GGML_TYPE
from tonnage.core.checkpoint import Catalog, TensorEntry
from tonnage.core.errors import UnsupportedTypeError
from tonnage.core.record import record
from tonnage.formats.gguf_cursor import MAX_NAME_BYTES, U32, U64, HeaderCursor, shown

MAX_DIMS = 4

# Known to ggml but no weights of a model, or withdrawn from the format.
_OTHER_TYPES = {
    4: "Q4_2", 5: "Q4_3", 9: "Q8_1", 15: "Q8_K", 24: "I8", 25: "I16", 26: "I32", 27: "I64",
    31: "Q4_0_4_4", 32: "Q4_0_4_8", 33: "Q4_0_8_8", 36: "IQ4_NL_4_4", 37: "IQ4_NL_4_8",
    38: "IQ4_NL_8_8",
}  # fmt: skip


@record
class _TensorInfo:
    name: str
    shape: tuple[int, ...]
    ggml_type: int
    offset: int


def read_tensor_infos(cursor: HeaderCursor, count: int) -> list[_TensorInfo]:
    """Return `count` rows of the tensor table; the cursor ends behind the table.

    Raises FileFormatError for a name met twice, more than 4 dimensions or a dimension of 0.
    """
    infos: dict[str, _TensorInfo] = {}
    for index in range(count):
        name = cursor.string(f"the name of tensor {index:,}", MAX_NAME_BYTES)
        if name in infos:
            raise cursor.error(f"has two tensors named {shown(name)}; the file is damaged.")
        infos[name] = _read_info(cursor, name)
    return list(infos.values())


def _read_info(cursor: HeaderCursor, name: str) -> _TensorInfo:
    num_dims = cursor.fixed(U32, f"the dimensions of tensor {shown(name)}")
    if num_dims > MAX_DIMS:
        raise cursor.error(
            f"gives tensor {shown(name)} {num_dims:,} dimensions, but GGUF allows {MAX_DIMS}; "
            "the file is damaged, download it again."
        )
    what = f"the table row of tensor {shown(name)}"
    ne = [cursor.fixed(U64, what) for _ in range(num_dims)]
    if 0 in ne:
        raise cursor.error(f"gives tensor {shown(name)} the empty shape {tuple(ne)}.")
    ggml_type = cursor.fixed(U32, what)
    return _TensorInfo(name, tuple(reversed(ne)), ggml_type, cursor.fixed(U64, what))


def build_catalog(cursor: HeaderCursor, infos: list[_TensorInfo], alignment: int) -> Catalog:
    """Return the catalog of a file whose tensor table ends at the cursor.

    Raises UnsupportedTypeError that names all block types not decoded here, and FileFormatError
    when a tensor is misaligned, leaves the file or overlaps another.
    """
    _refuse_unsupported(cursor, infos)
    data_offset = -(-cursor.pos // alignment) * alignment
    entries = [_entry(cursor, info, alignment, data_offset) for info in infos]
    _check_ranges(cursor, entries)
    tensors = {entry.name: entry for entry in entries}
    return Catalog(tensors=tensors, files=(cursor.path,), file_bytes=cursor.size)


def _refuse_unsupported(cursor: HeaderCursor, infos: list[_TensorInfo]) -> None:
    counts = Counter(i.ggml_type for i in infos if i.ggml_type not in BY_GGML_TYPE)
    if not counts:
        return
    first = next(i.name for i in infos if i.ggml_type in counts)
    kinds = ", ".join(
        f"{_OTHER_TYPES.get(kind, f'unknown type number {kind}')} ({num:,})"
        for kind, num in counts.most_common(8)
    )
    readable = ", ".join(fmt.name for fmt in ALL_FORMATS)
    raise UnsupportedTypeError(
        f"{cursor.path} has {counts.total():,} tensors of types that are not implemented: {kinds}; "
        f"the first is {shown(first)}. Take a file quantized with one of {readable}."
    )


def _entry(cursor: HeaderCursor, info: _TensorInfo, alignment: int, base: int) -> TensorEntry:
    fmt = BY_GGML_TYPE[info.ggml_type]
    row = info.shape[-1] if info.shape else 1
    if row % fmt.block_elems:
        raise cursor.error(
            f"gives {fmt.name} tensor {shown(info.name)} rows of {row:,} elements, which is not a "
            f"multiple of its block of {fmt.block_elems}; the file is damaged."
        )
    if info.offset % alignment:
        raise cursor.error(
            f"puts tensor {shown(info.name)} at offset {info.offset:,}, which is not a multiple of "
            f"the alignment {alignment:,}; the file is damaged."
        )
    nbytes = fmt.nbytes(info.shape)
    return TensorEntry(info.name, fmt, info.shape, cursor.path, base + info.offset, nbytes)


def _check_ranges(cursor: HeaderCursor, entries: list[TensorEntry]) -> None:
    by_offset = sorted(entries, key=lambda entry: entry.offset)
    last = max(entries, key=lambda entry: entry.offset + entry.nbytes, default=None)
    if last is not None and last.offset + last.nbytes > cursor.size:
        raise cursor.error(
            f"ends at byte {cursor.size:,} but tensor {shown(last.name)} needs bytes up to "
            f"{last.offset + last.nbytes:,}; the file is cut short or damaged, download it again."
        )
    for before, after in pairwise(by_offset):
        end = before.offset + before.nbytes
        if end > after.offset:
            raise cursor.error(
                f"has overlapping tensors: {shown(before.name)} ends at byte {end:,}, but "
                f"{shown(after.name)} starts at {after.offset:,}; the file is damaged or hostile."
            )
