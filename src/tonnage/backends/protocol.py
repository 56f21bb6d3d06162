"""What a backend is to the rest: it carries a plan out, and nothing else is known of it.

No address, panel or instruction set is named here. Several runtimes may live in one process.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from tonnage._native import Sampled, Sampler
from tonnage.core.layout import Layout
from tonnage.core.plan import Plan
from tonnage.core.record import record

# Who samples, from which of a step's logit rows, and how many of the best to report with log
# probabilities: -1 for none at all.
SampleRow = tuple[Sampler, int, int]


@record
class Span:
    """Rows of one sequence: its pages per group of the plan, how many rows, where they begin.

    pages[g][i] is the page of group g that holds positions 64 i .. 64 i + 63, or -1 where all of
    them are behind the group's window at `position`, that of the first row. slot: of the sequence's
    state, for models that keep any beside pages; at position 0 it starts as zeros.
    """

    pages: list[list[int]]
    num_rows: int
    position: int
    slot: int = -1


@record
class PooledRows:
    """Rows of a step, of one sequence, whose hidden states are added to the sum of `slot`.

    begins: the sum starts anew with them.
    """

    first_row: int
    num_rows: int
    slot: int
    begins: bool


class Runtime(Protocol):
    """A loaded model. Calls come from one thread at a time."""

    @property
    def plan(self) -> Plan:
        """The plan that it carries out."""

    @property
    def kernels(self) -> str:
        """What computes, in a word: the name of an instruction set, say."""

    def step(
        self,
        tokens: list[int],
        spans: list[Span],
        logit_rows: list[int],
        pooled: Sequence[PooledRows] = (),
    ) -> None:
        """Run one step over all spans' rows in order; logits of `logit_rows` (ascending) are kept.

        Keys, values and states of the rows are written into the spans' pages and slots. pooled:
        ascending too, of slots below the plan's concurrency, without logit rows. Without logit rows
        the head is not read.
        """

    def watch(
        self,
        tokens: list[int],
        spans: list[Span],
        on_product: Callable[[tuple[str, ...], bytes], None],
    ) -> None:
        """Run a step without logits, and hand out what products of weights read, for calibration.

        on_product: receives the names of the matrices and the rows that they multiply, float32
        [len(tokens)][columns] as bytes; the head's too. At most as many tokens as the plan has
        logit rows.
        """

    def logits(self, index: int) -> bytes:
        """Return float32 logits of the last step's `index`-th logit row, as bytes."""

    def sample(self, rows: list[SampleRow], sampled: list[Sampled | str]) -> None:
        """Sample from logit rows of the last step, which are overwritten.

        sampled: extended by one entry per row, in their order: what was sampled, or why the logits
        are no distribution. A list of the caller's, so that an interrupt behind the call loses
        nothing: samplers have counted by then. A sampler or a row comes once.
        """

    def pooled(self, slot: int) -> bytes:
        """Return the sum of a slot: float64 of d_model elements, as bytes.

        A hidden state is what the head reads: the residual stream after the final norm, float32.
        """

    def page_bytes(self, group: int) -> int:
        """Return the bytes of a KV page of `group`, as `read_page` gives them."""

    @property
    def state_bytes(self) -> int:
        """Bytes of a sequence's state, as `read_state` gives them."""

    def read_page(self, group: int, page: int) -> bytes:
        """Return the bytes of a KV page of `group`."""

    def write_page(self, group: int, page: int, data: bytes) -> None:
        """Replace a KV page of `group` by what `read_page` gave."""

    def copy_page(self, group: int, source: int, target: int) -> None:
        """Copy a KV page of `group`."""

    def release_pages(self, group: int, pages: list[int]) -> None:
        """Give the memory of KV pages back to the system; they read as zero afterwards."""

    def read_state(self, place: int) -> bytes:
        """Return the state of a slot, or of a snapshot behind the slots (`SlotPlan`)."""

    def write_state(self, place: int, data: bytes) -> None:
        """Replace the state of a slot or snapshot by what `read_state` gave."""

    def copy_state(self, source: int, target: int) -> None:
        """Copy the state of a slot or snapshot."""

    def resident_items(self) -> Mapping[str, int | None]:
        """Return what is in memory now of each item of the plan that the runtime holds.

        None where the system does not say. Peak and now agree: none is given back before the end.
        """

    def resident_page_bytes(self) -> int | None:
        """Return what is in memory now of all KV pages; None where the system does not say."""

    @property
    def thread_scratch_bytes(self) -> int:
        """Bytes that the threads' own scratch takes."""

    def close(self) -> None:
        """Give all memory back; the runtime cannot be used afterwards."""


class Backend(Protocol):
    """A kind of device that can carry plans out."""

    @property
    def name(self) -> str:
        """What plans and reports call it."""

    @property
    def layout(self) -> Layout:
        """How the plans are laid out that it carries out."""

    def load(self, plan: Plan, on_place: Callable[[int], None] | None = None) -> Runtime:
        """Return the model of `plan`, loaded; on_place receives the bytes of weights placed so far.

        Raises FileFormatError when a file ends early or holds what cannot be loaded.
        """
