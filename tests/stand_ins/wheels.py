"""Tiny wheels that carry a file in parts, and the catalog entry that names them."""

import dataclasses
import hashlib
import random
import zipfile
from dataclasses import dataclass
from pathlib import Path

from tonnage.store.catalog import HubModel, PackagedModel


@dataclass(frozen=True)
class TinyModel:
    entry: PackagedModel
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
    entry = PackagedModel(
        name=name,
        owner="Maker",
        publisher="Packer",
        licence="MIT",
        kind="base",
        packages=tuple(f"{name}-part{n + 1}==1.0" for n in range(num_parts)),
        inside="*/data/*.gguf.part[0-9][0-9]",
        num_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        store_as=f"{name}.gguf",
    )
    return TinyModel(entry, content, tuple(wheels))


def write_catalog(file: Path, *entries: PackagedModel | HubModel) -> Path:
    file.write_text("\n".join(map(_table, entries)))
    return file


def _table(entry: PackagedModel | HubModel) -> str:
    fields = {field.name: getattr(entry, field.name) for field in dataclasses.fields(entry)}
    if "num_bytes" in fields:
        fields["bytes"] = fields.pop("num_bytes")
        fields["packages"] = list(fields["packages"])
    return "[[model]]\n" + "".join(f"{key} = {value!r}\n" for key, value in fields.items())
