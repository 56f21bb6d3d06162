"""What identifies the weights of a model on this machine, without reading all of them."""

import os
from collections.abc import Mapping
from pathlib import Path

from tonnage.core.digest import short_digest, stream_digest

_SAMPLE_BYTES = 64 << 10
_NUM_SAMPLES = 16
_PLACE_BYTES = 4 << 10


def checked_sha256(model: Path) -> str | None:
    """Return the SHA-256 under which a pulled file was accepted, None for any other file.

    Whoever writes over a pulled file changes its time; its record is then the older one and does
    not count. Raises OSError when the model is gone.
    """
    record = model.with_name(model.name + ".sha256")
    try:
        with record.open("rb") as stream:
            known = stream.read(256).split(b" ", 1)[0].decode("ascii", "replace")
        recorded_ns = record.stat().st_mtime_ns
    except OSError:
        return None
    stale = recorded_ns < model.stat().st_mtime_ns
    return None if stale or len(known) != 64 else known


def model_files(model: Path) -> list[Path]:
    """Return the files that a model consists of: itself, or a folder's JSON and safetensors.

    Of a GGUF model in parts, all of them. Raises OSError.
    """
    if not model.is_dir():
        from tonnage.formats.gguf_parts import part_files

        return part_files(model)
    return sorted(path for path in model.iterdir() if path.suffix in (".json", ".safetensors"))


def checkpoint_identity(model: Path, header_bytes: Mapping[Path, int]) -> str:
    """Return what identifies a checkpoint, wherever it lies and whenever it was copied.

    Of every file its size, its header and bytes at places all over it; of a JSON file all bytes; of
    a folder and of parts the names of the files, too. header_bytes: of the files that hold weights,
    by resolved path. Weights that differ at other places alone are not noticed. Raises OSError.
    """
    stamps = []
    files = model_files(model)
    named = model.is_dir() or len(files) > 1
    for file in files:
        size = file.stat().st_size
        begin = size if file.suffix == ".json" else header_bytes.get(file.resolve(), 0)
        name = file.name if named else ""
        with file.open("rb") as stream:
            header = stream_digest(stream, begin)
            stamps.append(f"{name}:{size}:{header}:{_sampled(stream.fileno(), size)}")
    return short_digest("\n".join(stamps).encode())


def _sampled(fd: int, size: int) -> str:
    last = max(0, size - _PLACE_BYTES)
    places = (last * place // (_NUM_SAMPLES - 1) for place in range(_NUM_SAMPLES))
    return short_digest(b"".join(os.pread(fd, _PLACE_BYTES, begin) for begin in places))


def strict_identity(model: Path) -> str:
    """Return what changes whenever a file of the model was written to, copied or moved.

    Of a pulled file its SHA-256; of any other its inode, size, times of change (the kernel's too,
    which no program can set) and the bytes at places all over it. Reads at most 1 MiB per file.
    Raises OSError.
    """
    files = resolved_files(model)
    known = checked_sha256(files[0]) if len(files) == 1 else None
    if known is not None and not _changed_since_check(files[0]):
        return f"sha256:{known}"
    return " ".join(_strict_stamp(file) for file in files)


def files_stamp(model: Path) -> str:
    """Return what changes when a file of the model is replaced or written to; empty if one is gone.

    Reads no file, so a change that keeps inode, size and time goes unnoticed.
    """
    try:
        states = [file.stat() for file in resolved_files(model)]
    except OSError:
        return ""
    return " ".join(f"{one.st_dev}:{one.st_ino}:{one.st_size}:{one.st_mtime_ns}" for one in states)


def resolved_files(model: Path) -> list[Path]:
    """Return `model_files` with links to the model followed.

    Parts keep their names, by which they were found. Raises OSError.
    """
    files = model_files(model)
    return files if len(files) > 1 else model_files(model.resolve())


def _changed_since_check(model: Path) -> bool:
    """Whether anything was done to a pulled file after its record was written, links included."""
    record = model.with_name(model.name + ".sha256")
    return record.stat().st_mtime_ns < model.stat().st_ctime_ns


def _strict_stamp(file: Path) -> str:
    from hashlib import sha256  # 4 MiB with OpenSSL behind it

    digest = sha256()
    with file.open("rb") as stream:
        state = os.fstat(stream.fileno())
        for place in range(_NUM_SAMPLES):
            begin = max(0, state.st_size - _SAMPLE_BYTES) * place // (_NUM_SAMPLES - 1)
            digest.update(os.pread(stream.fileno(), _SAMPLE_BYTES, begin))
    numbers = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
    return f"{file.name}:{':'.join(map(str, numbers))}:{digest.hexdigest()}"
