"""Models of the Hugging Face Hub, through the optional huggingface_hub, kept in its own cache.

The library resumes a connection that was cut, keeps whole files of an interrupted download, and
honours HF_HOME, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE.
"""

import errno
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from glob import escape
from importlib import import_module
from pathlib import Path
from typing import Any

from tonnage.core.errors import CacheError, ModelNotFoundError, PullError, TonnageError
from tonnage.core.nearest import did_you_mean
from tonnage.core.record import record
from tonnage.formats.gguf_parts import first_parts, part_files, part_names
from tonnage.store.cache import cache_errors, models_folder, write_whole
from tonnage.store.catalog import HUB_PREFIX
from tonnage.store.network import missing_host

# The library keeps a large file under the SHA-256 that the hub states for it.
_SHA256 = re.compile(r"[0-9a-f]{64}")
_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
# What loading a folder reads; weights in other forms (pickles, second copies) stay away.
_TOP_FILES = (
    "config.json",
    "generation_config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.*",
)
_FOLDER_FILES = (*_TOP_FILES, "additional_chat_templates/*.jinja")
_NOT_FOLDER_FILES = (*(f"*/{name}" for name in _TOP_FILES), "consolidated*", "adapter_*")


@record
class HubName:
    """A parsed `hf:owner/name[:TAG][/file]`: the repository, and a file of it or None.

    tag: what the name of the file has to have in it, such as Q4_K_M, where no file is named.
    """

    repository: str
    file: str | None
    tag: str | None = None


def parse_hub_name(text: str) -> HubName:
    """Return the parts of `hf:owner/name[:TAG][/file]`.

    Raises ModelNotFoundError for another form.
    """
    pieces = text.removeprefix(HUB_PREFIX).split("/")
    repository, inner = "/".join(pieces[:2]), pieces[2:]
    repository, colon, tag = repository.partition(":")
    climbs = any(piece in ("", ".", "..") or "\\" in piece for piece in inner)
    is_wrong_tag = bool(colon) and (not tag or bool(inner))
    if not _REPOSITORY.fullmatch(repository) or climbs or is_wrong_tag or not text.isprintable():
        raise ModelNotFoundError(
            f"{text[:200]!r} does not name a model of the hub; write hf:owner/name for a folder of "
            "safetensors, hf:owner/name/file.gguf for one file, or hf:owner/name:Q4_K_M for the "
            "file of that quantization."
        )
    return HubName(repository, "/".join(inner) or None, tag or None)


def fetch_from_hub(name: HubName, *, offline: bool, environ: Mapping[str, str]) -> Path:
    """Return the local GGUF file, or the local folder with config.json and safetensors.

    Without a file: the folder when the repository has safetensors, else its one GGUF file. Of a
    model in parts all are fetched, and the file is the part that was named, or the first. With
    `offline` only the hub's cache is asked. A large file is compared once with the size and SHA-256
    that the hub states. Raises PullError (library missing, network, access, wrong content),
    ModelNotFoundError (no such repository or file, or several files to choose from), CacheError.
    """
    hub = import_hub(name.repository)
    endpoint = import_module("huggingface_hub.constants").ENDPOINT
    host = None if offline else missing_host(endpoint)
    try:
        path = _fetched(hub, name, offline=offline or host is not None)
    except (PullError, ModelNotFoundError):
        if host is None:
            raise
        raise PullError(
            f"The host {host} is not found, so this machine seems to be offline, and of "
            f"{name.repository}{'/' + name.file if name.file else ''} too little is in the hub's "
            "local cache. Connect it, or give the path of a file."
        ) from None
    for file in sorted(path.iterdir()) if path.is_dir() else part_files(path):
        _verify(file, environ)
    return path


def cached_files(name: HubName) -> list[Path]:
    """Return where the file of `name`, or each of its parts, lies.

    Those that are not here are left out, all of them when the library is missing.
    """
    try:
        hub: Any = import_module("huggingface_hub")
    except ImportError:
        return []
    found = (hub.try_to_load_from_cache(name.repository, file) for file in files_of(name))
    return [Path(path) for path in found if isinstance(path, str)]


def files_of(name: HubName) -> tuple[str, ...]:
    """Return the files of the repository that make up the one that `name` names: all its parts."""
    folder, slash, last = (name.file or "").rpartition("/")
    return tuple(folder + slash + part for part in part_names(last))


def _verify(file: Path, environ: Mapping[str, str]) -> None:
    """Compare a file of the hub's cache with the SHA-256 it is kept under, unless that was done.

    $XDG_CACHE_HOME/tonnage/hub/SHA256 holds size and time of change of the file that was compared.
    Raises PullError, and then the file is deleted.
    """
    from hashlib import file_digest

    blob = file.resolve()
    if not _SHA256.fullmatch(blob.name):
        return
    state = blob.stat()
    stamp = f"{state.st_size} {state.st_mtime_ns}".encode()
    mark = models_folder(environ).with_name("hub") / blob.name
    if mark.is_file() and mark.read_bytes() == stamp:
        return
    with blob.open("rb") as stream:
        found = file_digest(stream, "sha256").hexdigest()
    if found != blob.name:
        blob.unlink()
        raise PullError(
            f"{file.name} arrived with SHA-256 {found}, where the hub states {blob.name}; it was "
            "deleted. Run the same again; if it stays so, what the hub sends is damaged."
        )
    with cache_errors(mark.parent):
        mark.parent.mkdir(parents=True, exist_ok=True)
        write_whole(mark, stamp)


def _fetched(hub: Any, name: HubName, *, offline: bool) -> Path:
    with _hub_errors(name, _lister(hub, name, offline=offline)):
        if name.file is not None:
            return _file(hub, name, offline=offline)
        if name.tag is not None:
            return _only_gguf(hub, name, _cached_folder(hub, name), offline=offline)
        folder = Path(
            hub.snapshot_download(
                name.repository,
                allow_patterns=list(_FOLDER_FILES),
                ignore_patterns=list(_NOT_FOLDER_FILES),
                local_files_only=offline,
            )
        )
        if (folder / "config.json").is_file() and any(folder.glob("*.safetensors")):
            return folder
        return _only_gguf(hub, name, folder, offline=offline)


def import_hub(wanted: str) -> Any:
    """Return the library. Raises PullError where it is missing; wanted: what is to be fetched."""
    try:
        return import_module("huggingface_hub")
    except ImportError:
        raise PullError(
            f"{wanted} comes from the Hugging Face Hub, which needs the package huggingface_hub. "
            "Run `pip install 'tonnage[hub]'`, or give the path of a downloaded model."
        ) from None


def _cached_folder(hub: Any, name: HubName) -> Path:
    """Return where files of the repository lie that are here already."""
    try:
        return Path(hub.snapshot_download(name.repository, local_files_only=True))
    except Exception:
        return Path("/nonexistent")


def _file(hub: Any, name: HubName, *, offline: bool) -> Path:
    """Return the file of `name`, brought here with all parts that belong to it."""
    asked, files = name.file or "", files_of(name)
    if len(files) == 1:
        return Path(hub.hf_hub_download(name.repository, asked, local_files_only=offline))
    # One snapshot: single downloads might come from before and after a change of the repository.
    patterns = [escape(file) for file in files]
    folder = hub.snapshot_download(
        name.repository, allow_patterns=patterns, local_files_only=offline
    )
    path = Path(folder, asked)
    if not path.is_file():
        raise ModelNotFoundError(
            f"{name.repository} has no file {asked}{' in the local cache' if offline else ''}; "
            f"hf:{name.repository} alone lists its models."
        )
    return path


def _only_gguf(hub: Any, name: HubName, folder: Path, *, offline: bool) -> Path:
    if offline:
        files = [path.relative_to(folder).as_posix() for path in folder.rglob("*.gguf")]
    else:
        files = hub.HfApi().list_repo_files(name.repository)
    models = first_parts(file for file in files if file.endswith(".gguf"))
    if name.tag is not None:
        return _tagged(hub, name, models, offline=offline)
    if len(models) == 1:
        return _file(hub, HubName(name.repository, models[0]), offline=offline)
    if models:
        shown = ", ".join(models[:20])
        raise ModelNotFoundError(
            f"{name.repository} holds {len(models)} GGUF models; choose one as "
            f"hf:{name.repository}/FILE, or by a part of its name such as "
            f"{name.repository}:Q4_K_M: {shown}."
        )
    raise ModelNotFoundError(
        f"{name.repository} holds neither config.json with safetensors nor a GGUF file"
        f"{' in the local cache' if offline else ''}; it is not a model that can be run here."
    )


def _tagged(hub: Any, name: HubName, models: list[str], *, offline: bool) -> Path:
    """Return the only file whose name has the tag, as a word of it where several have."""
    tag = (name.tag or "").lower()
    having = [file for file in models if tag in file.lower()]
    words = [file for file in having if tag in re.split(r"[./-]", file.lower())]
    chosen = words if len(words) == 1 else having
    if len(chosen) == 1:
        return _file(hub, HubName(name.repository, chosen[0]), offline=offline)
    shown = ", ".join((chosen or models)[:20]) or "none"
    raise ModelNotFoundError(
        f"{len(chosen) or 'None'} of the GGUF models of {name.repository} "
        f"{'have' if chosen else 'has'} {name.tag!r} in their names; there are {shown}."
    )


def _lister(hub: Any, name: HubName, *, offline: bool) -> Callable[[], list[str]]:
    """Return a function that lists the repository's files, or nothing when that fails."""

    def files() -> list[str]:
        try:
            return [] if offline else list(hub.HfApi().list_repo_files(name.repository))
        except Exception:
            return []

    return files


@contextmanager
def _hub_errors(name: HubName, files: Callable[[], list[str]]) -> Iterator[None]:
    """Turn whatever huggingface_hub and its HTTP library raise into one of our sentences."""
    try:
        yield
    except TonnageError:
        raise
    except Exception as error:
        raise _translated(name, error, files) from None


def _translated(name: HubName, error: Exception, files: Callable[[], list[str]]) -> TonnageError:
    errors: Any = import_module("huggingface_hub.errors")
    repository = name.repository
    if isinstance(error, errors.GatedRepoError):
        return PullError(
            f"{repository} is gated: accept its terms on the hub, then run `hf auth login` or set "
            "HF_TOKEN."
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return ModelNotFoundError(
            f"The hub has no repository {repository}, or it is private; check the name, or set "
            "HF_TOKEN for a private one."
        )
    if isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
        why = _first_line(error.__cause__) if error.__cause__ else "it was not to be asked"
        return PullError(
            f"{repository}{'/' + name.file if name.file else ''} is not in the hub's local cache "
            f"and the hub was not reached ({why}). Check the network and HF_HUB_OFFLINE, then run "
            "the same again."
        )
    if isinstance(error, errors.EntryNotFoundError):
        return ModelNotFoundError(
            f"{repository} has no file {name.file}{did_you_mean(name.file or '', files())}"
        )
    if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
        return _cache_error(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _cache_error(error)
    return PullError(
        f"{repository} could not be fetched from the hub ({_first_line(error)}). Run the same "
        "again; files that had arrived whole are kept."
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300].rstrip(".")


def _cache_error(error: OSError) -> CacheError:
    place = f": {error.filename}" if error.filename else ""
    return CacheError(
        f"The hub's cache cannot be written ({error.strerror}{place}). Free some of the disk, or "
        "set HF_HOME to a folder that can be written."
    )
