"""Packing: a GGUF file of fewer bytes, with what it was made of written inside.

Only formats and weights change: all metadata of the source stay, its tokenizer and licence too. A
matrix is read, rewritten and written some rows at a time. The same source, calibration and target
give the same bytes.
"""

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import BinaryIO

from tonnage._native import Executor, InputError, best_isa
from tonnage.core.block_format import BY_NAME
from tonnage.core.checkpoint import TensorEntry
from tonnage.core.errors import PackError
from tonnage.core.mix import Formats
from tonnage.core.model_spec import ModelSpec
from tonnage.core.record import record
from tonnage.core.units import format_bytes
from tonnage.core.version import VERSION
from tonnage.formats.gguf import GgufFile
from tonnage.formats.gguf_write import NewTensor, header_of, raw_values, text_value, u32_value
from tonnage.models.registry import spec_from_gguf
from tonnage.packing.calibration import Calibration
from tonnage.packing.file_layout import FileLayout
from tonnage.packing.fill import filled
from tonnage.packing.losses import Importance, Losses, measure_losses, rewritten
from tonnage.packing.source_hash import sha256_of
from tonnage.planner.quality.allocator import Allocator, menus
from tonnage.planner.quality.estimate import ANY_CHANGE, KNOWN_FACTOR, width_factor
from tonnage.store.cache import free_bytes, whole_file
from tonnage.store.source import ModelSource

# Read at a time of a matrix.
_PART_BYTES = 4 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# llama.cpp's numbers for files that are mostly of one format (enum llama_ftype).
_FILE_TYPES = {
    "F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "Q2_K": 10,
    "Q3_K": 11, "Q4_K": 14, "Q5_K": 16, "Q6_K": 18, "IQ4_NL": 25, "IQ4_XS": 30, "BF16": 32,
}  # fmt: skip
_REPLACED = ("general.file_type", "general.quantization_version", "general.alignment")


@record
class Target:
    """What is asked for: at most so many bytes of file, or at most so much mean divergence."""

    num_bytes: int | None = None
    max_kld: float | None = None

    @property
    def words(self) -> str:
        """The target as the file states it."""
        if self.num_bytes is not None:
            return f"at most {self.num_bytes} bytes"
        return f"mean KL divergence of at most {self.max_kld} by estimate"


@record
class PackReport:
    """What was made. estimated_kld: between itself / factor and itself * factor, mostly."""

    file: str
    file_bytes: int
    source_bytes: int
    estimated_kld: float
    factor: float
    formats: Mapping[str, int]  # of how many tensors, by format
    bits_per_weight: float


@record
class Observers:
    """Of matrices measured and of bytes written: how many of how many."""

    on_matrix: Callable[[int, int], None] | None = None
    on_bytes: Callable[[int, int], None] | None = None


def pack(
    source: ModelSource,
    target: Target,
    calibration: Calibration | None,
    output: Path,
    threads: int,
    observers: Observers,
) -> PackReport:
    """Write `output` and return what it is. Raises PackError; then nothing was written."""
    _require_gguf(source, output)
    executor = Executor(best_isa(), threads)
    with GgufFile.open(source.path) as file:
        spec = spec_from_gguf(file.metadata, file.catalog)
        digest = sha256_of(source.path)
        if calibration is not None:
            calibration.require_for(spec, digest)
        values = _metadata(file, source, target, calibration, digest)
        layout = FileLayout(file.catalog, len(header_of(values, _tensors(file, {}))))
        losses = measure_losses(spec, layout, calibration, executor, observers.on_matrix)
        formats = _choose(spec, layout, losses, target)
        chosen = _by_tensor(spec, file, dict(formats))
        tensors = _tensors(file, chosen)
        values["general.file_type"] = u32_value(_file_type(tensors))
        size = len(header_of(values, tensors)) + sum(one.padded_bytes for one in tensors)
        with _whole(output, size) as stream:
            stream.write(header_of(values, tensors))
            writer = _Writer(stream, executor, spec, calibration, observers.on_bytes, size)
            for one in tensors:
                writer.write(file.catalog.tensors[one.name], one)
        num_weights = sum(prod(one.shape) for one in tensors)
        return PackReport(
            file=str(output),
            file_bytes=size,
            source_bytes=file.catalog.file_bytes,
            estimated_kld=_divergence(spec, losses, formats),
            factor=KNOWN_FACTOR,
            formats=dict(Counter(one.format.name for one in tensors).most_common()),
            bits_per_weight=8 * sum(one.nbytes for one in tensors) / num_weights,
        )


def _require_gguf(source: ModelSource, output: Path) -> None:
    if source.form != "gguf":
        raise PackError(
            f"{source.name} is a folder, and only GGUF files are packed; convert it first, with "
            "convert_hf_to_gguf.py of llama.cpp."
        )
    if output.exists() and output.samefile(source.path):
        raise PackError(f"{output} is the model itself; name another file with -o.")
    if not output.parent.is_dir():
        raise PackError(f"The folder {output.parent} does not exist; make it, or name another -o.")


def _metadata(
    file: GgufFile, source: ModelSource, target: Target, calibration: Calibration | None,
    digest: str,
) -> dict[str, bytes]:  # fmt: skip
    """Return the source's metadata with ours: where the file comes from, and how it was made."""
    values = {
        key: value
        for key, value in raw_values(file).items()
        if key not in _REPLACED and not key.startswith(("split.", "tonnage.pack."))
    }
    own = {
        "version": VERSION,
        "source": source.path.name,
        "source_sha256": digest,
        "recipe": target.words,
        "calibration_sha256": "" if calibration is None else calibration.sha256,
    }
    if calibration is not None and calibration.text_sha256 is not None:
        own["calibration_text_sha256"] = calibration.text_sha256
    values |= {f"tonnage.pack.{key}": text_value(text) for key, text in own.items()}
    values["general.quantization_version"] = u32_value(2)
    values["general.file_type"] = u32_value(0)
    return values


def _choose(spec: ModelSpec, layout: FileLayout, losses: Losses, target: Target) -> Formats:
    """Return the formats of least loss within the bytes, or of least bytes within the loss."""
    allocator = Allocator(spec, layout, lambda name, fmt: losses[name, fmt])
    least = layout.file_bytes({n: menu[-1].format for n, menu in menus(spec, layout).items()}, spec)
    if target.num_bytes is not None:
        formats = allocator.formats(target.num_bytes)
        if formats is None:
            raise PackError(
                f"{format_bytes(target.num_bytes)} are less than the smallest file possible: "
                f"{least:,} bytes ({format_bytes(least)}). Raise --target, or take a smaller model."
            )
        return filled(spec, layout, losses, formats, target.num_bytes)
    assert target.max_kld is not None
    low, high, best = least, layout.file_bytes({}, spec), Formats()
    while low <= high:
        middle = (low + high) // 2
        formats = allocator.formats(middle)
        if formats is not None and _divergence(spec, losses, formats) <= target.max_kld:
            high, best = middle - 1, formats
        else:
            low = middle + 1
    return best


def _divergence(spec: ModelSpec, losses: Losses, formats: Formats) -> float:
    lost = sum(losses[pair] for pair in formats)
    return lost + ANY_CHANGE * width_factor(spec.d_model) if formats else 0.0


def _by_tensor(spec: ModelSpec, file: GgufFile, formats: Mapping[str, str]) -> dict[str, str]:
    """Return tensor -> format of those that change; parts of a fused one change together."""
    chosen = {}
    for name, entry in file.catalog.tensors.items():
        found = {
            formats.get(part, at.format.name)
            for part, at in spec.weights.items()
            if len(at.shape) > 1 and at.file == entry.file
            and entry.offset <= at.offset < entry.offset + entry.nbytes
        }  # fmt: skip
        if len(found) == 1 and found != {entry.format.name}:
            chosen[name] = found.pop()
    return chosen


def _tensors(file: GgufFile, chosen: Mapping[str, str]) -> list[NewTensor]:
    return [
        NewTensor(name, BY_NAME[chosen.get(name, entry.format.name)], entry.shape)
        for name, entry in file.catalog.tensors.items()
    ]


def _file_type(tensors: list[NewTensor]) -> int:
    sizes: Counter[str] = Counter()
    for one in tensors:
        sizes[one.format.name] += one.nbytes
    return _FILE_TYPES.get(sizes.most_common(1)[0][0], 0)


class _Writer:
    """Writes the data of tensors, rewritten where their format changes."""

    def __init__(
        self, stream: BinaryIO, executor: Executor, spec: ModelSpec,
        calibration: Calibration | None, on_bytes: Callable[[int, int], None] | None, total: int,
    ) -> None:  # fmt: skip
        self._stream, self._executor, self._spec = stream, executor, spec
        self._calibration, self._on_bytes, self._total = calibration, on_bytes, total

    def write(self, entry: TensorEntry, new: NewTensor) -> None:
        """Write one tensor and what pads it. Raises PackError for values that have no form."""
        importance = self._importance(entry)
        rows = prod(entry.shape[:-1])
        row_bytes = entry.nbytes // rows
        part = max(_PART_BYTES // row_bytes // 32, 1) * 32 * row_bytes
        with open(entry.file, "rb") as file:
            for begin in range(0, entry.nbytes, part):
                size = min(part, entry.nbytes - begin)
                data = os.pread(file.fileno(), size, entry.offset + begin)
                if len(data) < size:
                    raise PackError(f"{entry.file} changed while it was read; pack it again.")
                if new.format != entry.format:
                    data = self._rewritten(entry, new.format.name, data, importance)
                self._stream.write(data)
                if self._on_bytes is not None:
                    self._on_bytes(self._stream.tell(), self._total)
        self._stream.write(bytes(new.padded_bytes - new.nbytes))

    def _importance(self, entry: TensorEntry) -> Importance | None:
        if self._calibration is None:
            return None
        parts = (
            name
            for name, one in self._spec.weights.items()
            if one.file == entry.file and len(one.shape) > 1
            and entry.offset <= one.offset < entry.offset + entry.nbytes
        )  # fmt: skip
        first = next(parts, None)
        return None if first is None else self._calibration.importance(self._spec, first)

    def _rewritten(
        self, entry: TensorEntry, fmt: str, data: bytes, importance: Importance | None
    ) -> bytes:
        try:
            return rewritten(self._executor, entry, fmt, data, importance)
        except InputError as error:
            raise PackError(
                f"{entry.file}: {entry.name}: {error}. The file is damaged; download it again."
            ) from None


@contextmanager
def _whole(output: Path, size: int) -> Iterator[BinaryIO]:
    """Give a stream to a file that appears when all is written. Raises PackError if it cannot."""
    free = free_bytes(output.parent)
    if free < size:
        raise _full(output, size, free)
    try:
        with whole_file(output) as stream:
            yield stream
    except OSError as error:
        if error.errno in _FULL:
            raise _full(output, size, free_bytes(output.parent)) from None
        raise


def _full(output: Path, size: int, free: int) -> PackError:
    return PackError(
        f"The disk of {output} has no room for the file: it takes {format_bytes(size)}, and "
        f"{format_bytes(free)} are free. Nothing was written; free some, or name another -o."
    )
