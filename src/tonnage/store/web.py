"""A GGUF file at an address of the web, kept in the cache; what was cut off is gone on with."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from tonnage.core.errors import ModelNotFoundError, PullError
from tonnage.store.cache import (
    cache_errors,
    check_disk,
    locked,
    models_folder,
    move_into_place,
    write_whole,
)
from tonnage.store.network import missing_host
from tonnage.store.progress import Progress, SilentProgress

_MAGIC = b"GGUF"
_CHUNK_BYTES = 1 << 20
_TIMEOUT_S = 30
_MAX_BYTES = 1 << 44


def fetch_from_web(
    address: str, *, offline: bool, progress: Progress | None, environ: Mapping[str, str]
) -> Path:
    """Return the local copy of the GGUF file at `address`, fetched unless it is here.

    The address alone says what it is: no hash is stated anywhere, so what arrived is kept with its
    own. Raises ModelNotFoundError for an address of something else, PullError, CacheError.
    """
    file = _place(address, models_folder(environ))
    record = file.with_name(file.name + ".sha256")
    if file.is_file() and record.is_file():
        return file
    if offline:
        raise PullError(
            f"{address[:200]} is not here, and nothing may be fetched. Run `tonnage pull` with it "
            "and a network first."
        )
    host = missing_host(address)
    if host is not None:
        raise PullError(f"The host {host} is not found; check the network and the address.")
    progress = progress or SilentProgress()
    root = models_folder(environ)
    try:
        with locked(root, file.parent.name, None), cache_errors(file.parent):
            file.parent.mkdir(parents=True, exist_ok=True)
            digest = _download(address, file.with_name("partial.data"), file.name, progress)
            move_into_place(file.with_name("partial.data"), file)
            write_whole(record, f"{digest}  {file.name}\n".encode())
    finally:
        progress.close()
    return file


def _place(address: str, root: Path) -> Path:
    """Return where the file of an address lies: in a folder that `tonnage rm` can name."""
    name = unquote(urlsplit(address).path.rpartition("/")[2])
    if not name.endswith(".gguf") or not name.isprintable() or len(name) > 120 or name[0] == ".":
        raise ModelNotFoundError(
            f"{address[:200]} is no address of a GGUF file: its last part has to end in .gguf."
        )
    stem = "".join(char if char.isalnum() and char.isascii() else "-" for char in name[:-5].lower())
    folder = f"{stem[:40].strip('-') or 'model'}-{sha256(address.encode()).hexdigest()[:8]}"
    return root / folder / name


def _download(address: str, part: Path, title: str, progress: Progress) -> str:
    """Bring the file to `part`, behind what lies there; return its SHA-256.

    Raises PullError, and keeps what arrived unless it is no GGUF file.
    """
    have_bytes = part.stat().st_size if part.is_file() else 0
    with _opened(address, have_bytes) as response:
        if response.status != 206:
            have_bytes = 0
        total = have_bytes + int(response.headers.get("Content-Length") or 0)
        if not have_bytes < total <= _MAX_BYTES:
            raise PullError(f"{address[:200]} states no size that a model may have ({total:,}).")
        check_disk(part.parent, total - have_bytes)
        progress.start(title, total, have_bytes)
        with part.open("ab" if have_bytes else "wb") as out:
            for num_bytes in _copied(response, out, have_bytes):
                progress.at(num_bytes)
            out.flush()
            os.fsync(out.fileno())
    return _checked(address, part, total)


@contextmanager
def _opened(address: str, have_bytes: int) -> Iterator[Any]:
    """Open the address behind the bytes that are here; errors of the network become ours."""
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError
    from urllib.request import Request, urlopen

    headers = {"Range": f"bytes={have_bytes}-"} if have_bytes else {}
    try:
        with urlopen(Request(address, headers=headers), timeout=_TIMEOUT_S) as response:
            yield response
    except HTTPError as error:
        error.close()
        raise PullError(f"{address[:200]} answers {error.code} {error.reason}.") from None
    except (URLError, HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        raise PullError(
            f"{address[:200]} could not be fetched ({reason}). Run the same again: it goes on with "
            "what has arrived."
        ) from None


def _copied(response: IO[bytes], out: IO[bytes], have_bytes: int) -> Iterator[int]:
    while chunk := response.read(_CHUNK_BYTES):
        out.write(chunk)
        have_bytes += len(chunk)
        yield have_bytes


def _checked(address: str, part: Path, total: int) -> str:
    """Return the SHA-256 of what arrived. Raises PullError when it is short or no GGUF file."""
    from hashlib import file_digest

    with part.open("rb") as stream:
        magic = stream.read(len(_MAGIC))
        size = os.fstat(stream.fileno()).st_size
        if magic == _MAGIC and size == total:
            stream.seek(0)
            return file_digest(stream, "sha256").hexdigest()
    if magic != _MAGIC:
        part.unlink()
        raise PullError(f"What {address[:200]} sends is no GGUF file (it begins with {magic!r}).")
    raise PullError(
        f"{address[:200]} ended after {size:,} of {total:,} bytes. Run the same again: it goes on "
        "with these."
    )
