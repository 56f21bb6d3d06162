"""Safetensors files, alone or in shards: the tensor catalog from their headers.

Source: the safetensors format description (huggingface/safetensors, README) and the
`model.safetensors.index.json` layout of Hugging Face transformers.
"""

import json
import math
import os
from pathlib import Path
from typing import NoReturn

from tonnage.core.block_format import BF16, F8_E4M3, F16, F32, F64, BlockFormat
from tonnage.core.checkpoint import Catalog, TensorEntry
from tonnage.core.errors import FileFormatError, ModelNotFoundError, UnsupportedTypeError

SINGLE_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"
# A header of 100,000 tensors is about 12 MB; parsing can cost twenty times its size in memory.
MAX_HEADER_BYTES = 16 << 20
MAX_DIMS = 8
MAX_DIM = 1 << 48

_FORMATS = {fmt.name: fmt for fmt in (F64, F32, F16, BF16, F8_E4M3)}
# Positions, masks and the like, which are no weights: they are checked, and no catalog has them.
_INTEGER_BYTES = {
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip
_INTEGERS = {name: BlockFormat(name, 1, size, -1) for name, size in _INTEGER_BYTES.items()}
_READABLE = {**_FORMATS, **_INTEGERS}


def open_safetensors(path: str | os.PathLike[str]) -> Catalog:
    """Return the catalog of a `.safetensors` file or of a model folder; only headers are read.

    A folder holds `model.safetensors`, or `model.safetensors.index.json` with the shards it names
    beside it. Raises ModelNotFoundError when there is neither, FileFormatError when a header is
    cut short, malformed or has holes or overlaps, or shards and index disagree, and
    UnsupportedTypeError for floats other than F64, F32, F16, BF16 and F8_E4M3. Tensors of integers
    are left out.
    """
    where = Path(path)
    if where.name.endswith(".index.json"):
        return _read_shards(where)
    if not where.is_dir():
        return _catalog({where: read_safetensors_header(where)})
    if (where / SINGLE_NAME).exists():
        return open_safetensors(where / SINGLE_NAME)
    if (where / INDEX_NAME).exists():
        return _read_shards(where / INDEX_NAME)
    raise ModelNotFoundError(
        f"{where} holds neither {SINGLE_NAME} nor {INDEX_NAME}; give a folder with one of them."
    )


def read_safetensors_header(path: str | os.PathLike[str]) -> tuple[dict[str, TensorEntry], int]:
    """Return the tensors of one file in file order, integers too, and the file's size in bytes.

    Raises as `open_safetensors`.
    """
    name = os.fspath(path)
    raw, size = _read_header_bytes(name)
    header = _parse_json(raw, name)
    header.pop("__metadata__", None)
    data_offset = 8 + len(raw)
    _refuse_unsupported(header, name)
    entries = [_entry(name, key, value, data_offset) for key, value in header.items()]
    entries.sort(key=lambda entry: (entry.offset, entry.nbytes))
    _check_ranges(entries, name, data_offset, size)
    return {entry.name: entry for entry in entries}, size


def _fail(path: str, problem: str) -> NoReturn:
    raise FileFormatError(f"{path} {problem}")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _read_limited(path: str, limit: int) -> bytes:
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > limit:
                _fail(path, f"is {size:,} bytes, over the limit of {limit:,} for an index.")
            return file.read(limit)
    except FileNotFoundError:
        raise ModelNotFoundError(f"{path} does not exist; check the path.") from None
    except (OSError, ValueError) as error:
        _fail(path, f"cannot be read: {getattr(error, 'strerror', None) or error}.")


def _read_header_bytes(path: str) -> tuple[bytes, int]:
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            prefix = file.read(8)
            length = int.from_bytes(prefix, "little")
            if len(prefix) == 8 and length <= min(size - 8, MAX_HEADER_BYTES):
                raw = file.read(length)
                if len(raw) == length:
                    return raw, size
    except FileNotFoundError:
        raise ModelNotFoundError(f"{path} does not exist; download the model again.") from None
    except (OSError, ValueError) as error:
        _fail(path, f"cannot be read: {getattr(error, 'strerror', None) or error}.")
    if len(prefix) == 8 and length > MAX_HEADER_BYTES:
        _fail(
            path,
            f"states a header of {length:,} bytes, over the limit of {MAX_HEADER_BYTES:,}; "
            "it is not a safetensors file or it is damaged, download it again.",
        )
    _fail(
        path,
        f"ends at byte {size:,} but its header needs bytes up to {8 + length:,}; "
        "the file is cut short or damaged, download it again.",
    )


def _parse_json(raw: bytes, path: str) -> dict[str, object]:
    try:
        parsed = json.loads(raw.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        reason = "it nests too deeply" if isinstance(error, RecursionError) else str(error)
        _fail(path, f"has no readable JSON header: {reason[:200]}; download the file again.")
    if not isinstance(parsed, dict):
        _fail(path, f"has a {type(parsed).__name__} where a JSON object belongs; it is damaged.")
    return parsed


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the name {_shown(key)} comes twice")
        found[key] = value
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _refuse_unsupported(header: dict[str, object], path: str) -> None:
    counts: dict[str, int] = {}
    first = ""
    for name, info in header.items():
        dtype = info.get("dtype") if isinstance(info, dict) else None
        if isinstance(dtype, str) and dtype not in _READABLE:
            first = first or name
            counts[dtype[:20]] = counts.get(dtype[:20], 0) + 1
    if counts:
        kinds = ", ".join(f"{_shown(kind)} ({num:,})" for kind, num in list(counts.items())[:8])
        raise UnsupportedTypeError(
            f"{path} has {sum(counts.values()):,} tensors of types that are not implemented: "
            f"{kinds}; the first is {_shown(first)}. Take a checkpoint in "
            f"{', '.join(_FORMATS)}."
        )


def _whole(value: object, limit: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= limit


def _entry(path: str, name: str, info: object, data_offset: int) -> TensorEntry:
    if not isinstance(info, dict) or set(info) != {"dtype", "shape", "data_offsets"}:
        _fail(path, f"describes tensor {_shown(name)} by {_shown(info)}; the file is damaged.")
    # JSON can spell lone surrogates, which no terminal or file name takes.
    if not name.isprintable():
        _fail(path, f"has a tensor named {_shown(name)}; the file is damaged or hostile.")
    dtype = info["dtype"]
    if not isinstance(dtype, str):
        _fail(path, f"gives tensor {_shown(name)} the dtype {_shown(dtype)}; it is damaged.")
    shape, (begin, end) = _check_shape(path, name, info["shape"]), _range(path, name, info)
    fmt = _READABLE[dtype]
    nbytes = math.prod(shape) * fmt.block_bytes
    if end - begin != nbytes:
        _fail(
            path,
            f"gives {dtype} tensor {_shown(name)} of shape {shape} {end - begin:,} bytes, "
            f"but it needs {nbytes:,}; the file is damaged, download it again.",
        )
    return TensorEntry(name, fmt, shape, path, data_offset + begin, nbytes)


def _check_shape(path: str, name: str, shape: object) -> tuple[int, ...]:
    if not isinstance(shape, list) or len(shape) > MAX_DIMS:
        _fail(path, f"gives tensor {_shown(name)} the shape {_shown(shape)}; it is damaged.")
    if not all(_whole(dim, MAX_DIM) for dim in shape):
        _fail(path, f"gives tensor {_shown(name)} the shape {_shown(shape)}; it is damaged.")
    return tuple(shape)


def _range(path: str, name: str, info: dict[str, object]) -> tuple[int, int]:
    offsets = info["data_offsets"]
    if not isinstance(offsets, list) or len(offsets) != 2:
        _fail(path, f"gives tensor {_shown(name)} the range {_shown(offsets)}; it is damaged.")
    if not all(_whole(offset, 1 << 63) for offset in offsets):
        _fail(path, f"gives tensor {_shown(name)} the range {_shown(offsets)}; it is damaged.")
    return offsets[0], offsets[1]


def _check_ranges(entries: list[TensorEntry], path: str, data_offset: int, size: int) -> None:
    if entries:
        last = max(entries, key=lambda entry: entry.offset + entry.nbytes)
        end = last.offset + last.nbytes
        if end > size:
            _fail(
                path,
                f"ends at byte {size:,} but tensor {_shown(last.name)} needs bytes up to {end:,}; "
                "the file is cut short, download it again.",
            )
    expected = data_offset
    for entry in entries:
        if entry.offset != expected:
            kind = "overlaps the tensor before it" if entry.offset < expected else "follows a hole"
            _fail(
                path,
                f"has tensor {_shown(entry.name)} at byte {entry.offset:,}, where {expected:,} is "
                f"expected: it {kind}; the file is damaged or hostile.",
            )
        expected += entry.nbytes
    if expected != size:
        _fail(
            path,
            f"is {size:,} bytes, but its tensors end at byte {expected:,}; "
            "the file is damaged or hostile, download it again.",
        )


def _read_shards(index: Path) -> Catalog:
    raw = _read_limited(str(index), MAX_HEADER_BYTES)
    weight_map = _parse_json(raw, str(index)).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        _fail(str(index), "has no weight_map that names a shard per tensor; download it again.")
    names = {name: _shard_name(index, shard) for name, shard in weight_map.items()}
    shards = {
        index.parent / shard: read_safetensors_header(index.parent / shard)
        for shard in sorted(set(names.values()))
    }
    missing = [n for n, shard in names.items() if n not in shards[index.parent / shard][0]]
    if missing:
        some = ", ".join(f"{_shown(name)} in {names[name]}" for name in missing[:5])
        _fail(
            str(index),
            f"names {len(missing):,} tensors that their shards do not hold: {some}; "
            "the folder mixes versions, download it again.",
        )
    return _catalog(shards)


def _shard_name(index: Path, shard: object) -> str:
    # Only a plain name beside the index: no path can lead out of the folder, and no index can
    # name an index. Symbolic links stay allowed, since the Hugging Face cache is made of them.
    plain = (
        isinstance(shard, str)
        and shard.endswith(".safetensors")
        and not set(shard) & set("/\\:")
        and shard.isprintable()
        and not shard.startswith(".")
    )
    if not plain:
        _fail(
            str(index),
            f"names the shard {_shown(shard)}, but a shard is a .safetensors file in the same "
            "folder; the index is damaged or hostile.",
        )
    return str(shard)


def _catalog(shards: dict[Path, tuple[dict[str, TensorEntry], int]]) -> Catalog:
    tensors: dict[str, TensorEntry] = {}
    for path, (entries, _) in shards.items():
        for name, entry in entries.items():
            if name in tensors:
                _fail(str(path), f"repeats tensor {_shown(name)} of {tensors[name].file}.")
            if entry.format.name in _FORMATS:
                tensors[name] = entry
    total = sum(size for _, size in shards.values())
    return Catalog(tensors=tensors, files=tuple(str(path) for path in shards), file_bytes=total)
