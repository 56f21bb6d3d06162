"""Calibration: the second moments of what each matrix multiplies, as files keep them.

Our own files are safetensors: a float32 tensor per matrix, by its name in GGUF files, and what it
was measured with as metadata. Files of llama.cpp's `llama-imatrix` are read too.
"""

import json
import struct
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tonnage.core.errors import PackError
from tonnage.core.model_spec import ModelSpec
from tonnage.core.record import record
from tonnage.core.version import VERSION
from tonnage.formats.safetensors import read_safetensors_header
from tonnage.models.fused import FUSED
from tonnage.models.tensor_names import gguf_name
from tonnage.packing.imatrix import GGUF_MAGIC, read_dat, read_gguf
from tonnage.store.cache import write_whole

Moments = npt.NDArray[np.float64]
LIMIT_BYTES = 1 << 30
# Columns that a text never used keep so much of the mean, or their weights would be arbitrary.
LEAST_SHARE = 1e-3
# Tables that are looked up: a calibration need not have seen them.
TABLES = ("embed", "head", "positions")
_KIND = "tonnage.calibration"


@record
class Calibration:
    """Mean squares per column that matrices multiplied, by the names of GGUF files.

    sha256: of the file. model_sha256, text_sha256, num_tokens: with what it was measured; None
    where the file does not say, as those of llama.cpp do not.
    """

    moments: Mapping[str, Moments]
    sha256: str
    model_sha256: str | None = None
    text_sha256: str | None = None
    num_tokens: int | None = None

    def importance(self, spec: ModelSpec, name: str) -> npt.NDArray[np.float32] | None:
        """Return how much each column of a matrix counts, 1 in the mean; None where not measured.

        Raises PackError for another number of columns.
        """
        entry = spec.weights[name]
        found = next((self.moments[n] for n in _names(name) if n in self.moments), None)
        if found is None:
            return None
        if found.size != entry.shape[-1]:
            raise PackError(
                f"The calibration has {found.size:,} columns for {entry.name}, and the model "
                f"{entry.shape[-1]:,}: it belongs to another model. Calibrate this one."
            )
        mean = float(found.mean())
        if mean <= 0:
            return None
        return np.maximum(found / mean, LEAST_SHARE).astype(np.float32)

    def require_for(self, spec: ModelSpec, model_sha256: str) -> None:
        """Raise PackError unless it was measured on this model, as far as it says so."""
        if self.model_sha256 not in (None, model_sha256):
            raise PackError(
                f"The calibration was measured on another model (SHA-256 {self.model_sha256}, and "
                f"this one has {model_sha256}). Calibrate this one: `tonnage calibrate`."
            )
        matrices = [n for n, e in spec.weights.items() if len(e.shape) > 1 and n not in TABLES]
        missing = [n for n in matrices if self.importance(spec, n) is None]
        if missing:
            raise PackError(
                f"The calibration lacks {len(missing):,} of {len(matrices):,} matrices of this "
                f"model, {spec.weights[missing[0]].name} first. Calibrate this one."
            )


def _names(name: str) -> Iterator[str]:
    """Yield what a matrix is called in GGUF files, alone and as a part of a fused tensor."""
    yield gguf_name(name)
    prefix, _, role = name.rpartition(".")
    for whole, parts in FUSED.items():
        if role in parts:
            yield gguf_name(f"{prefix}.{whole}")


def write_calibration(
    path: Path, moments: Mapping[str, Moments], *, model_sha256: str, text_sha256: str,
    num_tokens: int,
) -> None:  # fmt: skip
    """Write a file, whole or not at all; the same bytes for the same values. Raises OSError."""
    metadata = {
        "kind": _KIND,
        "model_sha256": model_sha256,
        "num_tokens": str(num_tokens),
        "text_sha256": text_sha256,
        "version": VERSION,
    }
    header: dict[str, object] = {"__metadata__": metadata}
    parts, offset = [], 0
    for name in sorted(moments):
        data = moments[name].astype("<f4").tobytes()
        place = [offset, offset + len(data)]
        header[name] = {"dtype": "F32", "shape": [len(data) // 4], "data_offsets": place}
        parts.append(data)
        offset += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    write_whole(path, struct.pack("<Q", len(text)) + text + b"".join(parts))


def read_calibration(path: Path) -> Calibration:
    """Return a file of ours, or an importance matrix of llama.cpp in either of its forms.

    Raises PackError, FileFormatError, OSError.
    """
    size = path.stat().st_size
    if size > LIMIT_BYTES:
        raise PackError(f"{path} has {size:,} bytes; a calibration has at most {LIMIT_BYTES:,}.")
    data = path.read_bytes()
    digest = sha256(data).hexdigest()
    if path.suffix == ".safetensors":
        return _read_own(path, data, digest)
    found = read_gguf(path) if data[:4] == GGUF_MAGIC else read_dat(data, path)
    return Calibration(found, digest)


def _read_own(path: Path, data: bytes, digest: str) -> Calibration:
    entries, _ = read_safetensors_header(path)
    (length,) = struct.unpack_from("<Q", data)
    metadata = json.loads(data[8 : 8 + length]).get("__metadata__")
    if not isinstance(metadata, dict) or metadata.get("kind") != _KIND:
        raise PackError(f"{path} is no calibration; `tonnage calibrate` makes one.")
    moments = {}
    for name, entry in entries.items():
        if entry.format.name != "F32":
            raise PackError(f"{path} has {name} as {entry.format.name}, where F32 belongs.")
        values = np.frombuffer(data, "<f4", entry.nbytes // 4, entry.offset).astype(np.float64)
        moments[name] = require_moments(values, name, path)
    count = str(metadata.get("num_tokens", ""))
    return Calibration(
        moments=moments,
        sha256=digest,
        model_sha256=str(metadata.get("model_sha256", "")),
        text_sha256=str(metadata.get("text_sha256", "")),
        num_tokens=int(count) if count.isascii() and count.isdecimal() else None,
    )


def require_moments(values: Moments, name: str, path: Path) -> Moments:
    """Return the values. Raises PackError where one is negative or not finite."""
    if not (np.isfinite(values) & (values >= 0)).all():
        raise PackError(
            f"{path} holds a mean square of {name} below 0 or not finite; make it anew."
        )
    return values
