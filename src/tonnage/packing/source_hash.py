"""What a model's files are, byte for byte."""

from hashlib import sha256
from pathlib import Path

from tonnage.store.identity import resolved_files

_READ_BYTES = 1 << 20


def sha256_of(model: Path) -> str:
    """Return the SHA-256 of all bytes of a model's files, one behind the other. Raises OSError."""
    digest = sha256()
    for file in resolved_files(model):
        with file.open("rb") as stream:
            while data := stream.read(_READ_BYTES):
                digest.update(data)
    return digest.hexdigest()
