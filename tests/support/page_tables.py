"""Which pages hold a sequence's positions, in every group of the plan."""

from collections.abc import Sequence

from tonnage.core.kv_format import PAGE_TOKENS
from tonnage.core.plan import KvGroupPlan

BEHIND = -1  # stands in a table for a page that was used again


class PageTable:
    """The pages of one group: a page goes behind the window before it is used again.

    It is used again as late as possible, so that a sequence can go back as far as pages allow.
    """

    def __init__(self, window: int, pages: Sequence[int]) -> None:
        """Take `pages`, which are the sequence's alone; window: 0 when all positions are seen."""
        self.window = window
        self.table: list[int] = []
        self._free = list(reversed(pages))
        self._first = 0  # index of the first page that is still there

    def first_seen(self, position: int) -> int:
        """Return the index of the first page that a row at `position` sees."""
        return max(0, position - self.window + 1) // PAGE_TOKENS if self.window else 0

    def reach(self, position: int, num_rows: int) -> None:
        """Hold pages for `num_rows` more positions from `position` on."""
        while len(self.table) * PAGE_TOKENS < position + num_rows:
            if not self._free:
                assert self._first < self.first_seen(position), "too few pages for the window"
                self._free.append(self.table[self._first])
                self.table[self._first] = BEHIND
                self._first += 1
            self.table.append(self._free.pop())

    def can_return_to(self, position: int) -> bool:
        """Whether all that a row at `position` sees is still there."""
        return self._first <= self.first_seen(position)

    def cut(self, num_tokens: int) -> None:
        """Give back the pages behind the first `num_tokens` positions; 0 gives back all."""
        while len(self.table) * PAGE_TOKENS >= num_tokens + PAGE_TOKENS:
            page = self.table.pop()
            if page != BEHIND:
                self._free.append(page)
        self._first = min(self._first, len(self.table))


class PageTables:
    """The tables of all groups."""

    def __init__(self, groups: Sequence[KvGroupPlan], pages: Sequence[Sequence[int]]) -> None:
        """Take the pages of each of `groups`."""
        self._tables = [
            PageTable(group.window, own) for group, own in zip(groups, pages, strict=True)
        ]

    def reach(self, position: int, num_rows: int) -> list[list[int]]:
        """Return the tables of a step of `num_rows` rows from `position` on, as a Span has them.

        They change with the next call.
        """
        for table in self._tables:
            table.reach(position, num_rows)
        return [table.table for table in self._tables]

    def go_back_to(self, num_tokens: int) -> int:
        """Forget all but the first `num_tokens` positions; return how many remain.

        That is none where a group has used a page again that the next row would see: what lies
        before it needs earlier pages still.
        """
        kept = num_tokens if all(t.can_return_to(num_tokens) for t in self._tables) else 0
        for table in self._tables:
            table.cut(kept)
        return kept
