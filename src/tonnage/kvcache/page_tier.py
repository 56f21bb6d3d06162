"""Between pages of the arena and pages in files: the tier that the prefix tree knows."""

from collections.abc import Sequence
from typing import Protocol

from tonnage.kvcache.page_store import PageStore

LOST = -1


class PageAccess(Protocol):
    """Reads and writes whole pages of the pool."""

    def read_page(self, group: int, page: int) -> bytes:
        """Return the bytes of a page."""

    def write_page(self, group: int, page: int, data: bytes) -> None:
        """Replace the bytes of a page."""


class PageTier:
    """A store of page files behind a pool; what fails is a miss and never an exception."""

    def __init__(self, store: PageStore, access: PageAccess) -> None:
        """Keep pages of `access` in `store`."""
        self.store = store
        self._access = access

    def root_key(self, salt: str) -> bytes:
        """Return the key that the first page of prompts with `salt` follows."""
        return self.store.root_key(salt)

    def page_key(self, parent: bytes, tokens: tuple[int, ...]) -> bytes:
        """Return the key of a full page of `tokens` after the page `parent`."""
        return self.store.page_key(parent, tokens)

    def has(self, key: bytes) -> bool:
        """Whether the page of group 0 seems to be there; `get` may still say no."""
        return self.store.has(key)

    def put(self, key: bytes, tokens: tuple[int, ...], pages: Sequence[int]) -> None:
        """Keep the bytes of `pages`, an id per group or LOST; those kept already are not read."""
        for group, page in enumerate(pages):
            if page != LOST and not self.store.refresh(key, group):
                self.store.put(key, tokens, self._access.read_page(group, page), group)

    def get(self, key: bytes, tokens: tuple[int, ...], pages: Sequence[int]) -> bool:
        """Fill `pages`, an id per group or LOST where none is wanted; False when any is missing.

        Nothing is written before all of them are known to be right.
        """
        found: list[tuple[int, int, bytes]] = []
        for group, page in enumerate(pages):
            if page != LOST:
                data = self.store.get(key, tokens, group)
                if data is None:
                    return False
                found.append((group, page, data))
        for group, page, data in found:
            self._access.write_page(group, page, data)
        return bool(found)
