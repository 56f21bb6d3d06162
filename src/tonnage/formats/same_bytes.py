"""Whether two tensors of a checkpoint are one and the same."""

import os
from contextlib import ExitStack

from tonnage.core.checkpoint import TensorEntry
from tonnage.core.errors import FileFormatError

CHUNK_BYTES = 1 << 20


def same_bytes(one: TensorEntry, other: TensorEntry) -> bool:
    """Return whether format, shape and every byte are the same; reading ends where they differ.

    Raises FileFormatError when a file cannot be read to its end.
    """
    if (one.format, one.shape) != (other.format, other.shape):
        return False
    if (one.file, one.offset) == (other.file, other.offset):
        return True
    with ExitStack() as stack:
        files = [_opened(stack, entry.file) for entry in (one, other)]
        for start in range(0, one.nbytes, CHUNK_BYTES):
            size = min(CHUNK_BYTES, one.nbytes - start)
            parts = [
                os.pread(fd, size, entry.offset + start)
                for fd, entry in zip(files, (one, other), strict=True)
            ]
            if parts[0] != parts[1]:
                return False
    return True


def _opened(stack: ExitStack, file: str) -> int:
    try:
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise FileFormatError(f"{file} cannot be read: {error.strerror}.") from error
    stack.callback(os.close, fd)
    return fd
