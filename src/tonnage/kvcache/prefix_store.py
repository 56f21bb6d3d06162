"""What the prefix tree wants of a tier behind memory."""

from typing import Protocol

from tonnage.kvcache.pages import LOST


class PrefixStore(Protocol):
    """A tier behind memory, such as a disk. No call may raise; what fails is a miss."""

    def root_key(self, salt: str) -> bytes:
        """Return the key that the first page of prompts with `salt` follows."""

    def page_key(self, parent: bytes, tokens: tuple[int, ...]) -> bytes:
        """Return the key of a full page of `tokens` after the page `parent`."""

    def has(self, key: bytes) -> bool:
        """Whether there is likely a page of that key."""

    def has_state(self, key: bytes) -> bool:
        """Whether there is likely a snapshot of the state after the page of that key."""

    def put(
        self, key: bytes, tokens: tuple[int, ...], pages: list[int], snapshot: int = LOST
    ) -> None:
        """Keep the bytes of `pages` (an id or LOST per group) before they are overwritten.

        snapshot: the place of the state after the page, LOST where there is none.
        """

    def get(
        self, key: bytes, tokens: tuple[int, ...], pages: list[int], snapshot: int = LOST
    ) -> bool:
        """Fill `pages` and the place of a snapshot; False when any is missing.

        LOST stands for what is not wanted.
        """
