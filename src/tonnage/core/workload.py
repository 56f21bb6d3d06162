"""What is to be run, stated whole: what a layout makes a plan of."""

from tonnage.core.kv_format import PAGE_TOKENS
from tonnage.core.mix import Formats
from tonnage.core.plan import KvFormat
from tonnage.core.record import record
from tonnage.core.rounding import round_up

MAX_STEP_ROWS = 512


@record
class Workload:
    """What is to be run: positions per sequence, sequences at once, rows per step, threads.

    formats: canonical names of matrices and what they become while loading; the others stay as
    they are. resident_bytes: what the process holds already, 0 for one that is to be started, and
    beside_bytes: what its other engines may come to, which is not in resident_bytes. kv_format: of
    the pages of K and V. server_bytes: what an HTTP server in the process may come to.
    with_structured_output: completions may have to fit a schema or a grammar. with_store: prefixes
    are kept on disk. shared_pages: beside a full context of one sequence, for all others; None:
    full contexts for all. num_snapshots: of sequences' states, for models that keep any beside
    pages.
    """

    context_tokens: int
    threads: int
    concurrency: int = 1
    max_rows: int = MAX_STEP_ROWS
    max_logit_rows: int = 1
    resident_bytes: int = 0
    kv_format: KvFormat = "f16"
    beside_bytes: int = 0
    formats: Formats = ()
    server_bytes: int = 0
    with_structured_output: bool = False
    with_store: bool = False
    shared_pages: int | None = None
    num_snapshots: int = 0

    def has_steps_of(self, other: "Workload") -> bool:
        """Whether plans of one model for both have the same weights and the same steps."""
        mine = (self.formats, self.kv_format, self.max_logit_rows, self.concurrency)
        return mine == (
            other.formats, other.kv_format, other.max_logit_rows, other.concurrency
        )  # fmt: skip

    def pool_pages(self, window: int) -> int:
        """Return the pages of all sequences; of a window no more than they have positions in."""
        full = self.concurrency * self.sequence_pages(window)
        if self.shared_pages is None:
            return full
        return min(full, self.sequence_pages(0) + self.shared_pages)

    def sequence_pages(self, window: int) -> int:
        """Return the pages that a sequence holds at most; window: 0 for layers that see all.

        Before a step the last `window` positions stay, and its rows follow; neither begins with a
        page.
        """
        whole = round_up(self.context_tokens, PAGE_TOKENS) // PAGE_TOKENS
        if not window:
            return whole
        return min(whole, round_up(window + self.max_rows, PAGE_TOKENS) // PAGE_TOKENS + 1)

    def kept_window(self, window: int) -> int:
        """Return the window, or 0 where it saves no page."""
        return window if self.sequence_pages(window) < self.sequence_pages(0) else 0
