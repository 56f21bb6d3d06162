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


def read_tensor(entry: TensorEntry) -> np.ndarray:
    """Return a tensor's values in float64."""
    with open(entry.file, "rb") as file:
        file.seek(entry.offset)
        data = np.frombuffer(file.read(entry.nbytes), np.uint8)
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
