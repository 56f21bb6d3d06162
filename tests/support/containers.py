"""Checkpoints opened with other people's readers, and their weights in float64.

The `gguf` package and a plain reading of the safetensors header stand in for tonnage.formats, so
that tests which use them referee it too.
"""

import json
import struct
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import gguf
import numpy as np

from tonnage.core.block_format import BF16, BY_GGML_TYPE, F16, F32
from tonnage.core.checkpoint import Catalog, TensorEntry
from tonnage.core.model_spec import ModelSpec

SAFETENSORS_FORMATS = {"F32": F32, "F16": F16, "BF16": BF16}


def read_gguf(path: Path) -> tuple[dict[str, object], Catalog]:
    """Return metadata (arrays as lists) and catalog of a GGUF."""
    reader = gguf.GGUFReader(path)
    keys = [key for key in reader.fields if not key.startswith("GGUF.")]
    metadata = {key: reader.fields[key].contents() for key in keys}
    entries = {}
    for tensor in reader.tensors:
        shape = tuple(int(dim) for dim in reversed(tensor.shape))
        fmt = BY_GGML_TYPE[int(tensor.tensor_type)]
        offset, nbytes = int(tensor.data_offset), int(tensor.n_bytes)
        entries[tensor.name] = TensorEntry(tensor.name, fmt, shape, str(path), offset, nbytes)
    return metadata, Catalog(entries, (str(path),), path.stat().st_size)


def read_hf(folder: Path) -> tuple[dict[str, object], Catalog]:
    """Return config.json and the catalog of all safetensors files of a folder."""
    files = sorted(folder.glob("*.safetensors"))
    entries = {name: entry for file in files for name, entry in _safetensors(file).items()}
    size = sum(file.stat().st_size for file in files)
    catalog = Catalog(entries, tuple(str(file) for file in files), size)
    return json.loads((folder / "config.json").read_text()), catalog


def _safetensors(path: Path) -> dict[str, TensorEntry]:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    return {
        name: TensorEntry(
            name,
            SAFETENSORS_FORMATS[item["dtype"]],
            tuple(item["shape"]),
            str(path),
            8 + length + item["data_offsets"][0],
            item["data_offsets"][1] - item["data_offsets"][0],
        )
        for name, item in header.items()
    }


def _doubles(data: bytes) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.array(struct.unpack(f"<{len(data) // 8}d", data)).astype(np.float32)


def _bit_by_bit(data: bytes, bits: int, block_bytes: int, values: tuple[int, ...]) -> np.ndarray:
    """A float16 d, then codes in order, the lowest bits of a byte first; d times their value."""
    found = []
    for start in range(0, len(data), block_bytes):
        d = np.frombuffer(data[start : start + 2], "<f2")[0].astype(np.float32)
        stream = int.from_bytes(data[start + 2 : start + block_bytes], "little")
        for i in range(8 * (block_bytes - 2) // bits):
            with np.errstate(invalid="ignore"):
                found.append(d * np.float32(values[stream >> bits * i & ((1 << bits) - 1)]))
    return np.array(found, np.float32)


# ggml.h and ggml-quants.c have these: dequantize_row_q1_0 and dequantize_row_q2_0.
UNKNOWN_TO_GGUF: dict[str, Callable[[bytes], np.ndarray]] = {
    "F64": _doubles,
    "Q1_0": lambda data: _bit_by_bit(data, 1, 18, (-1, 1)),
    "Q2_0": lambda data: _bit_by_bit(data, 2, 18, (-1, 0, 1, 2)),
}


def read_tensor(entry: TensorEntry) -> np.ndarray:
    """Return a tensor's values in float64."""
    with open(entry.file, "rb") as file:
        file.seek(entry.offset)
        data = np.frombuffer(file.read(entry.nbytes), np.uint8)
    if entry.format.name in UNKNOWN_TO_GGUF:
        values = UNKNOWN_TO_GGUF[entry.format.name](data.tobytes())
        return values.reshape(entry.shape).astype(np.float64)
    kind = gguf.GGMLQuantizationType(entry.format.ggml_type)
    if kind == gguf.GGMLQuantizationType.F32:
        values = data.view(np.float32)
    else:
        rows = data.reshape(-1, entry.format.nbytes((entry.shape[-1],)))
        values = gguf.quants.dequantize(rows, kind)
    return values.reshape(entry.shape).astype(np.float64)


def weights_of(spec: ModelSpec, num_kept: int = 1000) -> Callable[[str], np.ndarray]:
    """Return canonical name -> float64 weights, the last `num_kept` of them kept in memory."""
    return lru_cache(num_kept)(lambda name: read_tensor(spec.weights[name]))
