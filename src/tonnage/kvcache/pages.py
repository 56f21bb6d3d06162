"""The pages of one group: who uses them, which are kept for later, which are free."""

from collections.abc import Iterable

from tonnage.core.record import record

# Stands for a page or a snapshot that is not there.
LOST = -1


@record
class PageGroup:
    """Layers that keep the same positions: `window_tokens` of them, 0 for all.

    Ids 0..num_pages-1; page_bytes: K and V of one page in all layers of the group.
    """

    num_pages: int
    page_bytes: int
    window_tokens: int = 0


class PagePool:
    """Counts the users of every page; a page without users is cached while the prefix tree has it.

    `num_free + num_cached + num_used == num_total` holds after every call. Pages that were
    withdrawn belong to the system and count nowhere.
    """

    def __init__(self, num_pages: int) -> None:
        """Take pages 0..num_pages-1, all free."""
        self._free = list(range(num_pages - 1, -1, -1))
        self._users = [0] * num_pages
        self._kept = bytearray(num_pages)
        self._withdrawn: list[int] = []
        self.num_total = num_pages
        self.num_cached = 0
        self.num_used = 0

    @property
    def num_free(self) -> int:
        """Pages that hold nothing."""
        return len(self._free)

    def users(self, page: int) -> int:
        """Return how many sequences use `page`."""
        return self._users[page]

    def is_kept(self, page: int) -> bool:
        """Whether the prefix tree has `page`."""
        return bool(self._kept[page])

    def take(self) -> int | None:
        """Return a free page with one user, None when there is none."""
        if not self._free:
            return None
        page = self._free.pop()
        self._users[page] = 1
        self.num_used += 1
        return page

    def use(self, page: int) -> None:
        """Add a user to a page that is used or cached."""
        if self._users[page] == 0:
            assert self._kept[page], f"page {page} is free and cannot be shared"
            self.num_cached -= 1
            self.num_used += 1
        self._users[page] += 1

    def drop(self, page: int) -> None:
        """Take a user away; without users the page is cached, or free if it was not kept."""
        assert self._users[page] > 0, f"page {page} has no user"
        self._users[page] -= 1
        if self._users[page] == 0:
            self.num_used -= 1
            self._rest(page)

    def keep(self, page: int) -> None:
        """Let the prefix tree have a page that is in use."""
        assert self._users[page] > 0, f"page {page} is not in use"
        assert not self._kept[page], f"page {page} is kept already"
        self._kept[page] = 1

    def forget(self, page: int) -> None:
        """Take a page from the prefix tree; without users it is free."""
        assert self._kept[page], f"page {page} is not kept"
        self._kept[page] = 0
        if self._users[page] == 0:
            self.num_cached -= 1
            self._free.append(page)

    def withdraw(self, count: int) -> list[int]:
        """Take up to `count` free pages out of the pool; return them."""
        count = max(0, min(count, len(self._free)))
        taken = self._free[len(self._free) - count :]
        del self._free[len(self._free) - count :]
        self._withdrawn.extend(taken)
        self.num_total -= count
        return taken

    def restore(self, count: int) -> None:
        """Give up to `count` withdrawn pages back to the pool."""
        count = max(0, min(count, len(self._withdrawn)))
        back = [self._withdrawn.pop() for _ in range(count)]
        self._free.extend(back)
        self.num_total += count

    def check(self) -> None:
        """Assert what must always hold; for tests."""
        pages: Iterable[int] = range(len(self._users))
        resting = [p for p in pages if self._users[p] == 0 and self._kept[p]]
        used = [p for p in pages if self._users[p] > 0]
        assert len(resting) == self.num_cached
        assert len(used) == self.num_used
        assert self.num_free + self.num_cached + self.num_used == self.num_total
        assert self.num_total + len(self._withdrawn) == len(self._users)
        everywhere = sorted([*self._free, *self._withdrawn, *resting, *used])
        assert everywhere == list(pages)

    def _rest(self, page: int) -> None:
        if self._kept[page]:
            self.num_cached += 1
        else:
            self._free.append(page)
