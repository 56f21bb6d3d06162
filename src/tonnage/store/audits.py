"""Audits kept as small files, so that a figure is measured once and a plan can show it.

$XDG_CACHE_HOME/tonnage/audits/MODEL-REST.json: MODEL is a digest of the model's weights and of the
kernels, REST one of everything else that a figure depends on.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from tonnage.core.digest import short_digest
from tonnage.core.errors import CacheError
from tonnage.core.quality import AuditResult, Comparison, Estimate
from tonnage.core.record import record
from tonnage.core.version import VERSION
from tonnage.store.cache import cache_errors, models_folder, write_whole
from tonnage.store.identity import checked_sha256, resolved_files

# Raise it when the same models and text would give other figures through Python's part of the work.
METHOD_VERSION = 3
_LIMIT_BYTES = 1 << 16
_NUMBERS = ("kld_median", "kld_p99", "kld_p999", "top1_agreement", "top5_agreement")


@record
class AuditKey:
    """What an audit depends on: both models, how they are loaded, the text, how many chunks.

    mix, reference_mix: the formats of the weights (tonnage.planner.quality.precision.mix_id).
    """

    model: Path
    mix: str
    reference: Path | None
    reference_mix: str
    text_sha256: str
    num_chunks: int
    kv_format: str = "f16"
    reference_kv_format: str | None = None

    def file_name(self) -> str:
        """Return the name of the audit's file. Raises OSError when a model is gone."""
        reference = "" if self.reference is None else identity(self.reference)
        rest = (
            self.mix, reference, self.reference_mix, self.text_sha256, self.num_chunks,
            self.kv_format, self.reference_kv_format,
        )  # fmt: skip
        return f"{_model_digest(self.model)}-{_digest(rest)}.json"


def audits_folder(environ: Mapping[str, str]) -> Path:
    """Return the folder of all audits, which may not exist. Raises CacheError without a home."""
    return models_folder(environ).with_name("audits")


def identity(model: Path) -> str:
    """Return what identifies a model's weights without reading them.

    A pulled file has the SHA-256 it was accepted under beside it; any other is known by name, size
    and time of change, as all parts of a model are; a folder by those of its JSON files and
    safetensors. Links are followed.
    Raises OSError.
    """
    files = resolved_files(model)
    known = checked_sha256(files[0]) if len(files) == 1 else None
    if known is not None:
        return f"sha256:{known}"
    return " ".join(_stamp(file) for file in files)


def find(key: AuditKey, environ: Mapping[str, str] = os.environ) -> AuditResult | None:
    """Return the audit that was stored under `key`, or None. Raises CacheError, OSError."""
    return _read(audits_folder(environ) / key.file_name())


def store(key: AuditKey, result: AuditResult, environ: Mapping[str, str] = os.environ) -> None:
    """Keep `result`. Raises CacheError when the folder cannot be written."""
    import json

    folder = audits_folder(environ)
    with cache_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / key.file_name(), json.dumps(asdict(result), indent=1).encode())


def cached_audits(
    model_path: str | os.PathLike[str], *, environ: Mapping[str, str] = os.environ
) -> list[AuditResult]:
    """Return every audit of the weights at `model_path` with these kernels, the largest first.

    Reads no weights; files that cannot be read count as none. Raises CacheError without a home.
    """
    folder = audits_folder(environ)
    try:
        if next(folder.iterdir(), None) is None:
            return []
        prefix = _model_digest(Path(model_path))
        files = sorted(folder.glob(f"{prefix}-*.json"))
    except OSError:
        return []
    return sorted(_readable(files), key=lambda result: -result.num_scored)


def known_audits(model: Path) -> list[AuditResult]:
    """Return what `cached_audits` finds of `model`, nothing where there is no home folder."""
    try:
        return cached_audits(model)
    except CacheError:
        return []


@cache
def kernels_version() -> str:
    """Return what identifies the native code, and what Python does with its figures.

    A checksum of 32 bits: nobody forges one, and a digest would take 24 ms of every run.
    """
    from zlib import crc32  # for models that have audits

    from tonnage import _native

    checksum = num_bytes = 0
    with Path(_native.__file__).open("rb") as stream:
        while data := stream.read(1 << 18):
            checksum, num_bytes = crc32(data, checksum), num_bytes + len(data)
    return f"{VERSION} {METHOD_VERSION} {num_bytes} {checksum:08x}"


def _model_digest(model: Path) -> str:
    return _digest((identity(model), kernels_version()))


def _digest(parts: object) -> str:
    import json

    return short_digest(json.dumps(parts).encode())


def _stamp(file: Path) -> str:
    state = file.stat()
    return f"{file.name}:{state.st_size}:{state.st_mtime_ns}"


def _readable(files: list[Path]) -> Iterator[AuditResult]:
    for file in files:
        result = _read(file)
        if result is not None:
            yield result


def _read(file: Path) -> AuditResult | None:
    import json

    try:
        with file.open("rb") as stream:
            raw = json.loads(stream.read(_LIMIT_BYTES))
        return _result(raw)
    except (OSError, ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return None


def _result(raw: dict[str, Any]) -> AuditResult:
    """Return the result that `asdict` took apart. Raises TypeError, KeyError, ValueError."""
    comparison = raw["comparison"]
    if comparison is not None:
        comparison = Comparison(
            **{
                **comparison,
                "perplexity": _estimate(comparison["perplexity"]),
                "mean_kld": _estimate(comparison["mean_kld"]),
                **{name: float(comparison[name]) for name in _NUMBERS},
            }
        )
    return AuditResult(
        **{
            **raw,
            "perplexity": _estimate(raw["perplexity"]),
            "comparison": comparison,
            "num_chunks": int(raw["num_chunks"]),
            "num_scored": int(raw["num_scored"]),
            "seconds": float(raw["seconds"]),
        }
    )


def _estimate(raw: dict[str, float | None]) -> Estimate:
    value, low, high = raw["value"], raw["low"], raw["high"]
    if value is None:
        raise ValueError
    return Estimate(float(value), low and float(low), high and float(high))
