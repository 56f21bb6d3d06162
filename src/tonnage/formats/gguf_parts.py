"""GGUF models in several files, as `llama-gguf-split` writes them: NAME-00001-of-00003.gguf.

Source: llama.cpp, tools/gguf-split (README and the keys `split.*`). The first part has all other
metadata; every part has a header with its own tensors.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tonnage.core.checkpoint import Catalog, TensorEntry
from tonnage.core.errors import FileFormatError, ModelNotFoundError
from tonnage.formats.gguf_cursor import shown

# Far above any real model; each part is a mapped file.
MAX_PARTS = 1024
_PART = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.DOTALL)


def part_names(name: str) -> tuple[str, ...]:
    """Return the names of all parts of the model that file name `name` is a part of, in order.

    Another kind of name is the only one. More than MAX_PARTS are none of a model.
    """
    match = _PART.fullmatch(name)
    if match is None:
        return (name,)
    stem, number, count = match["stem"], int(match["number"]), int(match["count"])
    if not 1 <= number <= count <= MAX_PARTS:
        return (name,)
    return tuple(f"{stem}-{i:05}-of-{count:05}.gguf" for i in range(1, count + 1))


def part_files(model: Path) -> list[Path]:
    """Return the files that the GGUF model at `model` consists of, as far as they are there."""
    names = part_names(model.name)
    return [path for path in map(model.with_name, names) if path == model or path.exists()]


def first_parts(names: Iterable[str]) -> list[str]:
    """Return the names in order, without those of later parts; they may have folders before."""

    def is_later(name: str) -> bool:
        last = name.rpartition("/")[2]
        return part_names(last)[0] != last

    return sorted(name for name in names if not is_later(name))


def stated_parts(path: str, metadata: Mapping[str, object]) -> int:
    """Return of how many parts a file says that it is one: 1 for a whole model.

    Raises FileFormatError for more than MAX_PARTS.
    """
    count = metadata.get("split.count", 1)
    if not isinstance(count, int) or count > MAX_PARTS:
        raise FileFormatError(
            f"{path} states split.count {count}, where a model has at most {MAX_PARTS:,} parts; "
            "the file is damaged or hostile."
        )
    return max(count, 1)


def paths_of_parts(path: str, count: int) -> list[str]:
    """Return where the `count` parts lie, of which `path` is one.

    Raises FileFormatError when its name does not say so, ModelNotFoundError that names what is not
    there.
    """
    file = Path(path)
    names = part_names(file.name)
    if len(names) != count:
        raise FileFormatError(
            f"{path} is one of {count:,} parts, and the others are found by its name, which has "
            f"to end in -00001-of-{count:05}.gguf or alike; give all parts their names back."
        )
    missing = [name for name in names if not file.with_name(name).is_file()]
    if missing:
        shown_names = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise ModelNotFoundError(
            f"{path} is one of {count:,} parts, of which {len(missing):,} are not beside it: "
            f"{shown_names}; download them into the same folder."
        )
    return [str(file.with_name(name)) for name in names]


def check_part(
    path: str, metadata: Mapping[str, object], index: int, first: Mapping[str, object]
) -> None:
    """Raise FileFormatError unless a file's `metadata` fit part `index` of the model of `first`."""
    expected = {"split.no": index, "split.count": first["split.count"]}
    if "split.tensors.count" in first:
        expected["split.tensors.count"] = first["split.tensors.count"]
    for key in ("general.architecture", "general.name"):
        if key in first and key in metadata:
            expected[key] = first[key]
    for key, value in expected.items():
        found = metadata.get(key)
        if found != value:
            raise FileFormatError(
                f"{path} states {key} {_said(found)}, where part {index + 1:,} of this model has "
                f"{_said(value)}; the parts are mixed up, download them again."
            )


def _said(value: object) -> str:
    return shown(value) if isinstance(value, str) else str(value)


def joined(catalogs: Sequence[Catalog], stated_tensors: object) -> Catalog:
    """Return one catalog of the parts' tensors.

    stated_tensors: how many all parts have by the first one, None when it does not say. Raises
    FileFormatError when two parts hold a tensor, or together another number.
    """
    tensors: dict[str, TensorEntry] = {}
    for catalog in catalogs:
        for name, entry in catalog.tensors.items():
            if name in tensors:
                raise FileFormatError(
                    f"{entry.file} holds tensor {shown(name)}, as {tensors[name].file} does; the "
                    "parts are mixed up, download them again."
                )
            tensors[name] = entry
    files = tuple(file for catalog in catalogs for file in catalog.files)
    if stated_tensors is not None and stated_tensors != len(tensors):
        raise FileFormatError(
            f"{files[0]} states split.tensors.count {stated_tensors}, but its {len(files):,} parts "
            f"hold {len(tensors):,} tensors; download them again."
        )
    return Catalog(tensors, files, sum(catalog.file_bytes for catalog in catalogs))
