"""Between pages of the arena and pages in files: the tier that the prefix tree knows."""

from collections.abc import Sequence
from typing import Protocol

from tonnage.kvcache.page_store import PageStore
from tonnage.kvcache.pages import LOST
from tonnage.kvcache.states import StateBytes


class PageAccess(Protocol):
    """Reads and writes whole pages of the pool."""

    def read_page(self, group: int, page: int) -> bytes:
        """Return the bytes of a page."""

    def write_page(self, group: int, page: int, data: bytes) -> None:
        """Replace the bytes of a page."""


class PageTier:
    """A store of page files behind a pool; what fails is a miss and never an exception."""

    def __init__(
        self, store: PageStore, access: PageAccess, states: StateBytes | None = None
    ) -> None:
        """Keep pages of `access` in `store`.

        states: of a model whose sequences have one. In the store snapshots are one group more, the
        last, whose pages are states.
        """
        self.store = store
        self._access = access
        self._states = states

    def root_key(self, salt: str) -> bytes:
        """Return the key that the first page of prompts with `salt` follows."""
        return self.store.root_key(salt)

    def page_key(self, parent: bytes, tokens: tuple[int, ...]) -> bytes:
        """Return the key of a full page of `tokens` after the page `parent`."""
        return self.store.page_key(parent, tokens)

    def has(self, key: bytes) -> bool:
        """Whether the page of group 0 seems to be there; `get` may still say no."""
        return self.store.has(key)

    def has_state(self, key: bytes) -> bool:
        """Whether there seems to be a snapshot behind the page; `get` may still say no."""
        return self._states is not None and self.store.has(key, self.store.num_groups - 1)

    def put(
        self, key: bytes, tokens: tuple[int, ...], pages: Sequence[int], snapshot: int = LOST
    ) -> None:
        """Keep the bytes of `pages`, an id per group or LOST; those kept already are not read.

        snapshot: the place of the state behind them, LOST where there is none.
        """
        for group, page in enumerate(pages):
            if page != LOST and not self.store.refresh(key, group):
                self.store.put(key, tokens, self._access.read_page(group, page), group)
        if self._states is not None and snapshot != LOST:
            group = self.store.num_groups - 1
            if not self.store.refresh(key, group):
                self.store.put(key, tokens, self._states.read_state(snapshot), group)

    def get(
        self, key: bytes, tokens: tuple[int, ...], pages: Sequence[int], snapshot: int = LOST
    ) -> bool:
        """Fill `pages`, an id per group or LOST where none is wanted; False when any is missing.

        snapshot: the place for the state, LOST where it is not wanted. Nothing is written before
        all of them are known to be right.
        """
        state = None
        if self._states is not None and snapshot != LOST:
            state = self.store.get(key, tokens, self.store.num_groups - 1)
            if state is None:
                return False
        found: list[tuple[int, int, bytes]] = []
        for group, page in enumerate(pages):
            if page != LOST:
                data = self.store.get(key, tokens, group)
                if data is None:
                    return False
                found.append((group, page, data))
        for group, page, data in found:
            self._access.write_page(group, page, data)
        if self._states is not None and state is not None:
            self._states.write_state(snapshot, state)
        return bool(found)
