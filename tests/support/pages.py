"""Small pages for tests of the page store."""

import random
from dataclasses import dataclass
from pathlib import Path

from tonnage.core.kv_format import PAGE_TOKENS
from tonnage.kvcache.page_store import PageStore

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


@dataclass(frozen=True)
class Page:
    """A page of a chain: its key, its tokens."""

    key: bytes
    tokens: tuple[int, ...]


def pages_of(store: PageStore, tokens: list[int], salt: str = "") -> list[Page]:
    """Return all full pages of `tokens`, in order."""
    key, pages = store.root_key(salt), []
    for begin in range(0, len(tokens) - PAGE_TOKENS + 1, PAGE_TOKENS):
        page = tuple(tokens[begin : begin + PAGE_TOKENS])
        key = store.page_key(key, page)
        pages.append(Page(key, page))
    return pages


def put(store: PageStore, page: Page, data: bytes | None = None, group: int = 0) -> bool:
    """Put what `data_of` gives for `page`, or `data`."""
    return store.put(page.key, page.tokens, data_of(page) if data is None else data, group)


def get(store: PageStore, page: Page, group: int = 0) -> bytes | None:
    """Get `page`."""
    return store.get(page.key, page.tokens, group)


def data_of(page: Page, num_bytes: int = PAGE_BYTES) -> bytes:
    """Return what a test keeps as `page`: bytes that follow from its key alone."""
    return (page.key * -(-num_bytes // len(page.key)))[:num_bytes]


def page_paths(folder: Path) -> list[Path]:
    """Return the finished page files below `folder`."""
    return sorted(folder.rglob("*.page"))
