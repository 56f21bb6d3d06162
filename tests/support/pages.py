"""Small pages for tests of the page store."""

import random
from pathlib import Path

from tonnage.core.layout import PAGE_TOKENS
from tonnage.memory.page_store import PageKey, PageStore

IDENTITY = bytes(range(32))
PAGE_BYTES = 640


def small_store(
    folder: Path, *, page_bytes: int = PAGE_BYTES, max_bytes: int = 1 << 30
) -> PageStore:
    """Return a store of two groups; it leaves the disk as full as it likes."""
    return PageStore(folder, IDENTITY, (page_bytes, 64), max_bytes, keep_free_bytes=0)


def chain(num_pages: int, *, seed: int = 0) -> list[int]:
    """Return the token ids of `num_pages` full pages, others for another seed."""
    return random.Random(seed).choices(range(1 << 17), k=num_pages * PAGE_TOKENS)


def page_of(key: PageKey, num_bytes: int = PAGE_BYTES) -> bytes:
    """Return what a test keeps under `key`: bytes that follow from its digest alone."""
    return (key.digest * -(-num_bytes // len(key.digest)))[:num_bytes]


def page_paths(folder: Path) -> list[Path]:
    """Return the finished page files below `folder`."""
    return sorted(folder.rglob("*.page"))
