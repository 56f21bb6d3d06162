"""One sequence in the cache: which tokens its pages hold, and how to extend it."""

from support.page_tables import PageTables
from tonnage.backends.cpu.runtime import CpuRuntime
from tonnage.backends.protocol import Span
from tonnage.core.kv_format import PAGE_TOKENS


class Sequence:
    """Tokens whose keys and values lie in `pages`; a new prompt keeps what it shares with them."""

    def __init__(self, runtime: CpuRuntime, pages: list[list[int]]) -> None:
        """Take `pages` of each group of the runtime's pools; they are the sequence's alone."""
        self._runtime = runtime
        self._capacity_pages = len(pages[0])
        self._pages = PageTables(runtime.plan.kv.groups, pages)
        self.tokens: list[int] = []

    @property
    def capacity_tokens(self) -> int:
        """Positions that the pages hold, at most the planned context."""
        return min(self._capacity_pages * PAGE_TOKENS, self._runtime.plan.context_tokens)

    def rewind_to(self, prompt: list[int]) -> int:
        """Forget what differs from `prompt`; return how many of its tokens are already computed.

        The last token of the prompt is always left to compute, because its logits are wanted. All
        are to be computed where a window's pages have been used again since.
        """
        shared = 0
        limit = min(len(self.tokens), len(prompt) - 1)
        while shared < limit and self.tokens[shared] == prompt[shared]:
            shared += 1
        kept = self._pages.go_back_to(shared)
        del self.tokens[kept:]
        return kept

    def extend(self, tokens: list[int]) -> None:
        """Compute `tokens` as one step (at most plan.max_rows); the last one's logits are kept."""
        pages = self._pages.reach(len(self.tokens), len(tokens))
        span = Span(pages, len(tokens), len(self.tokens))
        self._runtime.step(tokens, [span], [len(tokens) - 1])
        self.tokens.extend(tokens)
