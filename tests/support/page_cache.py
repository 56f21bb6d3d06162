"""Files as they are when nobody has read them yet."""

import os
from pathlib import Path


def forget(path: Path) -> None:
    """Drop the page cache of a file that nobody else has open."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)
