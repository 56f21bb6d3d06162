"""Where pulled models lie: one folder per model, one lock per model, a record of what was checked.

$XDG_CACHE_HOME/tonnage/models/NAME/FILE.gguf           whole: it got this name after its check
                                    FILE.gguf.sha256    what was checked, as sha256sum writes it
                                    partial/            what an unfinished pull has so far
$XDG_CACHE_HOME/tonnage/models/.NAME.lock               held by whoever changes the folder
"""

import errno
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from tonnage.core.errors import CacheError
from tonnage.core.record import record
from tonnage.core.units import format_bytes
from tonnage.store.catalog import PackagedModel

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def models_folder(environ: Mapping[str, str]) -> Path:
    """Return the folder of all pulled models, which may not exist.

    Follows the XDG Base Directory Specification 0.8: a relative XDG_CACHE_HOME is ignored. Raises
    CacheError without a home folder.
    """
    base = environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        try:
            base = str(Path.home() / ".cache")
        except RuntimeError:
            raise CacheError(
                "There is no home folder to keep models in. Set XDG_CACHE_HOME to a folder."
            ) from None
    return Path(base, "tonnage", "models")


@record
class CachePlace:
    """The place of one catalog entry below `root`; the paths need not exist."""

    root: Path
    entry: PackagedModel

    @property
    def folder(self) -> Path:
        """The model's own folder."""
        return self.root / self.entry.name

    @property
    def file(self) -> Path:
        """The finished model."""
        return self.folder / self.entry.store_as

    @property
    def record(self) -> Path:
        """The checksum under which `file` was accepted."""
        return self.file.with_name(self.file.name + ".sha256")

    @property
    def partial(self) -> Path:
        """The folder of an unfinished pull."""
        return self.folder / "partial"

    def has_size(self) -> bool:
        """Return whether the file is there with the size that the catalog states."""
        try:
            return self.file.is_file() and self.file.stat().st_size == self.entry.num_bytes
        except OSError:
            return False

    def is_ready(self) -> bool:
        """Return whether the file is there, whole, and was checked against the entry's SHA-256.

        Reads the size and the record, not the file.
        """
        try:
            with self.record.open("rb") as stream:
                line = stream.read(256)
        except OSError:
            return False
        return line.split(b" ", 1)[0] == self.entry.sha256.encode() and self.has_size()

    def write_record(self) -> None:
        """Note that `file` has the entry's SHA-256. Raises OSError."""
        line = f"{self.entry.sha256}  {self.entry.store_as}\n"
        write_whole(self.record, line.encode())


def write_whole(path: Path, data: bytes) -> None:
    """Replace `path` by `data` so that a reader sees all of it or none, even after a power cut.

    Of several that write it at once one wins. Raises OSError; then nothing is left behind.
    """
    with whole_file(path) as stream:
        stream.write(data)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Give a stream to what replaces `path` when the context ends well; see `write_whole`."""
    new = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}.new")
    try:
        with new.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        move_into_place(new, path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def move_into_place(source: Path, target: Path) -> None:
    """Rename a synced file over `target`, and sync the folder. Raises OSError."""
    source.replace(target)
    handle = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def cache_errors(folder: Path) -> Iterator[None]:
    """Turn an OSError inside the context into a CacheError about `folder`."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise full_disk(folder) from None
        raise CacheError(
            f"The model cache {folder} cannot be used ({error.strerror or error}: "
            f"{error.filename or folder}). Set XDG_CACHE_HOME to a folder that can be written."
        ) from None


def full_disk(folder: Path) -> CacheError:
    """Return the error for a full disk, which states what is free."""
    return CacheError(
        f"The disk of the model cache {folder} is full ({format_bytes(free_bytes(folder))} free). "
        "Free some, `tonnage list` shows what is pulled, or set XDG_CACHE_HOME to a folder on "
        "another disk. What had arrived is kept."
    )


def free_bytes(folder: Path) -> int:
    """Return the bytes a user may still write to the disk of `folder`, or of its nearest parent."""
    for place in (folder, *folder.parents):
        try:
            disk = os.statvfs(place)
        except OSError:
            continue
        return disk.f_bavail * disk.f_frsize
    return 0


def check_disk(folder: Path, need_bytes: int) -> None:
    """Raise CacheError when the disk of `folder` has less than `need_bytes` free."""
    free = free_bytes(folder)
    if free < need_bytes:
        raise CacheError(
            f"Pulling needs {format_bytes(need_bytes)} more on the disk of {folder}, which has "
            f"{format_bytes(free)} free. Free some, or set XDG_CACHE_HOME to a folder on another "
            "disk."
        )


@contextmanager
def locked(root: Path, name: str, while_waiting: Callable[[], None] | None) -> Iterator[None]:
    """Hold the lock of model `name` in the folder `root`, which is made if need be.

    When another process holds it: calls `while_waiting` once and waits, or raises CacheError if
    that is None. The system frees the lock of a process that dies. Raises CacheError also when the
    folder cannot be written.
    """
    import fcntl

    with cache_errors(root):
        root.mkdir(parents=True, exist_ok=True)
        # Beside the model's folder and never removed: unlinking a lock file makes two locks.
        handle = os.open(root / f".{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        with cache_errors(root):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if while_waiting is None:
                    raise CacheError(
                        f"Another process is pulling {name} right now; wait for it or end it."
                    ) from None
                while_waiting()
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def remove_tree(folder: Path) -> int:
    """Delete `folder` and all below it, if it is there; return the bytes of its files.

    Raises OSError. Links are deleted, not followed.
    """
    import shutil

    if folder.is_symlink() or folder.is_file():
        folder.unlink()
        return 0
    files = [Path(parent, name) for parent, _, names in os.walk(folder) for name in names]
    num_bytes = sum(_size(file) for file in files)
    # A pip whose parent was killed lives on for a moment, and writes and clears here itself.
    for wait_s in (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, None):
        try:
            if folder.exists():
                shutil.rmtree(folder)
            break
        except OSError as error:
            if wait_s is None or error.errno not in (errno.ENOENT, errno.ENOTEMPTY):
                raise
            time.sleep(wait_s)
    return num_bytes


def _size(file: Path) -> int:
    try:
        return file.lstat().st_size
    except FileNotFoundError:
        return 0
