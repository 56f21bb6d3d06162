"""A loaded model in float64: each step of the plan as a few lines of numpy."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tonnage._native import Arena, InputError, Sampled
from tonnage.backends.protocol import PooledRows, SampleRow, Span
from tonnage.backends.reference.operations import Operations
from tonnage.backends.reference.pages import Pages
from tonnage.backends.reference.weights import Array, read_weights
from tonnage.core.plan import Plan
from tonnage.core.steps import Gated, Matmul, Step

FLOAT32_BYTES = 4
FLOAT64_BYTES = 8


class ReferenceRuntime:
    """Carries a plan out without its arena: weights, pages and states are arrays of their own.

    Every row of a step goes through all steps; rows without logits are left out where they are
    gathered. See `tonnage.backends.protocol.Runtime` for the contracts.
    """

    kernels = "float64"
    thread_scratch_bytes = 0

    def __init__(self, plan: Plan, on_place: Callable[[int], None] | None = None) -> None:
        """Read the weights of `plan`."""
        self.plan = plan
        self.weights = read_weights(plan, on_place)
        self.pages = Pages(plan)
        num_states = plan.slots.num_slots + plan.slots.num_snapshots
        self.states = np.zeros((num_states, sum(one.elements for one in plan.slots.blocks)))
        self._sums = np.zeros((plan.concurrency, plan.d_model))
        self._logits = np.zeros((0, plan.vocab_size))

    def step(
        self,
        tokens: list[int],
        spans: list[Span],
        logit_rows: list[int],
        pooled: Sequence[PooledRows] = (),
    ) -> None:
        """Run one step over all spans' rows in order."""
        if self.plan.slots.blocks:
            self.states[[span.slot for span in spans if span.position == 0]] = 0
        run = Operations(self.plan, self.weights, self.pages, tokens, spans, logit_rows, pooled)
        run.sums = self._sums
        for step in self.plan.steps:
            self.run_operation(run, step)
        self._logits = run.buffers["logits"]

    def watch(
        self,
        tokens: list[int],
        spans: list[Span],
        on_product: Callable[[tuple[str, ...], bytes], None],
    ) -> None:
        """Run a step without logits, and hand out what products of weights read."""
        rows = list(range(len(tokens)))
        run = Operations(self.plan, self.weights, self.pages, tokens, spans, rows, ())
        run.sums = self._sums
        for step in self.plan.steps:
            if isinstance(step, Matmul | Gated):
                read = run.buffers[step.input.names[0]]
                on_product(step.weights, read.astype(np.float32).tobytes())
            self.run_operation(run, step)

    def run_operation(self, run: Operations, step: Step) -> None:
        """Run one operation of a step."""
        run.run(step)

    def block_states(self, index: int, slot: int) -> Array:
        """Return the elements of one block's state in a slot, to read and to change."""
        blocks = self.plan.slots.blocks
        begin = sum(one.elements for one in blocks[:index])
        return self.states[slot, begin : begin + blocks[index].elements]

    def logits(self, index: int) -> bytes:
        """Return float32 logits of the last step's `index`-th logit row, as bytes."""
        return bytes(self._logits[index].astype(np.float32).tobytes())

    def sample(self, rows: list[SampleRow], sampled: list[Sampled | str]) -> None:
        """Sample from logit rows of the last step, one after another."""
        row_bytes = FLOAT32_BYTES * self.plan.vocab_size
        arena = Arena(row_bytes, huge_pages=False)
        for sampler, row, num_top in rows:
            arena.write(0, self.logits(row))
            try:
                sampled.append(sampler.sample(arena, 0, self.plan.vocab_size, num_top))
            except (InputError, RuntimeError) as error:
                sampled.append(str(error))

    def pooled(self, slot: int) -> bytes:
        """Return the sum of a slot."""
        return bytes(self._sums[slot].tobytes())

    def page_bytes(self, group: int) -> int:
        """Return the bytes of a page in float64."""
        return self.pages.page_bytes(group)

    @property
    def state_bytes(self) -> int:
        """Bytes of a state in float64."""
        return FLOAT64_BYTES * self.states.shape[1]

    def read_page(self, group: int, page: int) -> bytes:
        """Return the float64 values of a page."""
        return self.pages.read_page(group, page)

    def write_page(self, group: int, page: int, data: bytes) -> None:
        """Replace a page by what `read_page` gave."""
        self.pages.write_page(group, page, data)

    def copy_page(self, group: int, source: int, target: int) -> None:
        """Copy a page."""
        self.write_page(group, target, self.read_page(group, source))

    def release_pages(self, group: int, pages: list[int]) -> None:
        """Forget pages."""
        self.pages.release(group, pages)

    def read_state(self, place: int) -> bytes:
        """Return the float64 values of a slot or snapshot."""
        return bytes(self.states[place].tobytes())

    def write_state(self, place: int, data: bytes) -> None:
        """Replace the state of a slot or snapshot."""
        self.states[place] = np.frombuffer(data)

    def copy_state(self, source: int, target: int) -> None:
        """Copy the state of a slot or snapshot."""
        self.states[target] = self.states[source]

    def resident_items(self) -> Mapping[str, int | None]:
        """Return nothing: the plan's items are not where this runtime's bytes are."""
        return {}

    def resident_page_bytes(self) -> int | None:
        """Return nothing: see `resident_items`."""
        return None

    def close(self) -> None:
        """Forget all arrays."""
        self.weights = {}
        self.pages = Pages(self.plan)
        self._logits = np.zeros((0, 0))
