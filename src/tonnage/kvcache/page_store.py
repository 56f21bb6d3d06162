"""The disk tier of the prefix cache: pages of keys and values as files, named by their content.

FOLDER/XX/REST-G.page   XXREST: the key's digest in hexadecimal; G: the group
FOLDER/XX/.NAME.new     being written; a writer that was killed leaves it, a later scan deletes it

A file is a header of HEADER_BYTES and one page. The header is what the reader expects byte for byte
(magic, version, group, sizes, identity, key, tokens), then a checksum of itself and
the page. Nothing is synced: a rename makes a file visible whole or not at all while the system
runs, and after a power cut the checksum decides. A page that is lost is computed again.

Several processes may share a folder. Each reads it anew after writing a sixteenth of the cap, so
that n processes together may exceed the cap by n sixteenths of it.
"""

import os
import stat
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from tonnage.core.kv_format import PAGE_TOKENS
from tonnage.core.page_counts import PageCounts

HEADER_BYTES = 512
IDENTITY_BYTES = 32
_MAGIC = b"TONPAGE\n"
_VERSION = 1
_DIGEST_BYTES = 32
# A key: a digest, and how many pages there are up to it.
_KEY = struct.Struct(f"<{_DIGEST_BYTES}sI")
_FIELDS = struct.Struct(f"<8sIIIQ{IDENTITY_BYTES}s{_KEY.size}s{4 * PAGE_TOKENS}s")
_SIZE_FIELD = 4
_CHECKSUM_AT = HEADER_BYTES - _DIGEST_BYTES
_TOKENS = struct.Struct(f"<{PAGE_TOKENS}I")
# A chain is used as a whole; later pages count as older, so that it is shortened from its end.
_OLDER_PER_PAGE_NS = 10_000_000
_ABANDONED_NS = 3600 * 10**9
_KEEP_FREE_BYTES = 256 << 20


class PageStore:
    """Pages in a folder that other processes may use too; every failure of the disk is a miss."""

    def __init__(
        self,
        folder: Path,
        identity: bytes,
        group_page_bytes: Sequence[int],
        max_bytes: int,
        *,
        keep_free_bytes: int = _KEEP_FREE_BYTES,
    ) -> None:
        """Use `folder`, which is made when the first page is put.

        identity: IDENTITY_BYTES that differ whenever a page of the same tokens would hold other
        values. group_page_bytes: bytes of a page in each group. max_bytes: of all files together,
        other models' too. keep_free_bytes: what the disk keeps free.
        """
        if len(identity) != IDENTITY_BYTES:
            raise ValueError(f"identity has {len(identity)} bytes, not {IDENTITY_BYTES}")
        self.counts = PageCounts()
        self._folder = folder
        self._identity = identity
        self._page_bytes = tuple(group_page_bytes)
        self._max_bytes = max_bytes
        self._keep_free_bytes = keep_free_bytes
        # Bytes of all files as far as known, and what this process adds before it looks again.
        self._known_bytes = 0
        self._unseen_bytes = 0

    @property
    def num_groups(self) -> int:
        """Kinds of pages for each key."""
        return len(self._page_bytes)

    def root_key(self, salt: str) -> bytes:
        """Return the key that first pages follow. salt: keeps tenants apart."""
        return _key(sha256(self._identity + salt.encode("utf-8", "surrogatepass")).digest(), 0)

    def page_key(self, parent: bytes, tokens: Sequence[int]) -> bytes:
        """Return the key of the page of `tokens` (PAGE_TOKENS ids) behind the page `parent`.

        It depends on everything that the page's values depend on: the identity and all tokens up to
        its last, and on the salt.
        """
        return _key(sha256(parent + _TOKENS.pack(*tokens)).digest(), _index(parent) + 1)

    def has(self, key: bytes, group: int = 0) -> bool:
        """Whether a file of that name and size is there; its content is not read."""
        try:
            size = os.stat(self._path(key, group), follow_symlinks=False).st_size
        except OSError:
            return False
        return size == HEADER_BYTES + self._page_bytes[group]

    def refresh(self, key: bytes, group: int = 0) -> bool:
        """Whether a file is there as `has` says; if so it counts as used now."""
        if not self.has(key, group):
            return False
        with suppress(OSError):
            _touch(self._path(key, group), _index(key))
        return True

    def get(self, key: bytes, tokens: Sequence[int], group: int = 0) -> bytes | None:
        """Return the page of `tokens` at `key`, None unless every byte of its file is as written.

        A page that is found counts as used now; a file that is damaged is deleted.
        """
        path = self._path(key, group)
        page = None
        with suppress(OSError, MemoryError):
            page = self._read(path, self._head(key, tokens, group), key)
            if page is None:
                self.counts.damaged += 1
                path.unlink()
        self.counts.hits += page is not None
        self.counts.misses += page is None
        return page

    def put(self, key: bytes, tokens: Sequence[int], page: bytes, group: int = 0) -> bool:
        """Keep `page` and return whether its file is there now; the oldest pages give way.

        A page whose file is there already counts as used now. Raises ValueError when the page has
        not the bytes of its group.
        """
        if len(page) != self._page_bytes[group]:
            raise ValueError(
                f"a page of group {group} has {self._page_bytes[group]} bytes, not {len(page)}"
            )
        if self.refresh(key, group):
            return True
        done = False
        try:
            size = HEADER_BYTES + len(page)
            if self._make_room(size):
                head = self._head(key, tokens, group)
                self._write(self._path(key, group), head + _checksum(head, page), page, key)
                self._known_bytes += size
                self._unseen_bytes += size
                done = True
        except (OSError, MemoryError):
            pass
        self.counts.written += done
        self.counts.not_written += not done
        return done

    def _path(self, key: bytes, group: int) -> Path:
        name = key[:_DIGEST_BYTES].hex()
        return self._folder / name[:2] / f"{name[2:]}-{group}.page"

    def _head(self, key: bytes, tokens: Sequence[int], group: int) -> bytes:
        """Return the header up to its checksum."""
        fields = _FIELDS.pack(
            _MAGIC, _VERSION, group, PAGE_TOKENS, self._page_bytes[group], self._identity, key,
            _TOKENS.pack(*tokens),
        )  # fmt: skip
        return fields.ljust(_CHECKSUM_AT, b"\0")

    def _read(self, path: Path, head: bytes, key: bytes) -> bytes | None:
        """Return the page, None when the file does not begin with `head` or is damaged.

        Raises OSError.
        """
        # A pipe in its place must not block.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            state = os.fstat(fd)
            if state.st_uid != os.geteuid() or state.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise PermissionError("a page file that another user may have written")
            size = _FIELDS.unpack_from(head)[_SIZE_FIELD]
            if not stat.S_ISREG(state.st_mode) or state.st_size != HEADER_BYTES + size:
                return None
            header = os.pread(fd, HEADER_BYTES, 0)
            if header[:_CHECKSUM_AT] != head:
                return None
            page = os.pread(fd, size, HEADER_BYTES)
            if len(page) != size or _checksum(head, page) != header[_CHECKSUM_AT:]:
                return None
            _touch(fd, _index(key))
            return page
        finally:
            os.close(fd)

    def _write(self, path: Path, header: bytes, page: bytes, key: bytes) -> None:
        """Write both so that `path` is whole when it appears. Raises OSError."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        new = path.with_name(f".{path.stem}.{os.getpid()}.{time.monotonic_ns()}.new")
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            try:
                _write_all(fd, header)
                _write_all(fd, page)
                _touch(fd, _index(key))
                # Begins to write it out. Until that is done a memory limit counts it as used.
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(fd)
            new.replace(path)
        except BaseException:
            new.unlink(missing_ok=True)
            raise

    def _make_room(self, need_bytes: int) -> bool:
        """Delete the oldest pages until `need_bytes` fit; return whether they do."""
        if need_bytes > self._max_bytes:
            return False
        over = self._known_bytes + need_bytes > self._max_bytes
        if over or self._unseen_bytes >= self._max_bytes // 16 or self._known_bytes == 0:
            self._trim(self._max_bytes - need_bytes)
        return self._disk_has(need_bytes)

    def _disk_has(self, need_bytes: int) -> bool:
        place = self._folder
        while not place.exists() and place != place.parent:
            place = place.parent
        disk = os.statvfs(place)
        return disk.f_bavail * disk.f_frsize >= need_bytes + self._keep_free_bytes

    def _trim(self, target_bytes: int) -> None:
        """Look at all files; when they exceed `target_bytes`, delete the oldest, a bit further."""
        files = sorted(_page_files(self._folder))
        total = sum(size for _, size, _ in files)
        # Free some at once, or every page from here on would scan the folder.
        floor = target_bytes - self._max_bytes // 16 if total > target_bytes else target_bytes
        for _, size, path in files:
            if total <= max(0, floor):
                break
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass
            except OSError:
                continue  # of another user; our own may still go
            self.counts.evicted += 1
            total -= size
        self._known_bytes, self._unseen_bytes = total, 0


def _key(digest: bytes, index: int) -> bytes:
    return _KEY.pack(digest, index)


def _index(key: bytes) -> int:
    return int(_KEY.unpack(key)[1])


def _checksum(head: bytes, page: bytes) -> bytes:
    digest = sha256(head)
    digest.update(page)
    return digest.digest()


def _touch(file: int | Path, index: int) -> None:
    used = time.time_ns() - index * _OLDER_PER_PAGE_NS
    os.utime(file, ns=(used, used))


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _page_files(folder: Path) -> Iterator[tuple[int, int, str]]:
    """Yield (time of last use, bytes, path) of every file; what killed writers left is deleted."""
    abandoned = time.time_ns() - _ABANDONED_NS
    for shard in _entries(folder):
        if not (len(shard.name) == 2 and shard.is_dir(follow_symlinks=False)):
            continue
        for file in _entries(shard.path):
            try:
                state = file.stat(follow_symlinks=False)
                if file.name.endswith(".new") and state.st_mtime_ns < abandoned:
                    os.unlink(file.path)
                elif file.name.endswith((".page", ".new")):
                    yield state.st_mtime_ns, state.st_size, file.path
            except OSError:
                continue


def _entries(folder: str | Path) -> Iterator["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError:
        return
