"""A loaded model on the CPU: an arena, the native program, and one native call per step."""

from collections.abc import Callable, Mapping, Sequence

from tonnage._native import Arena, Executor, Program, Sampled, sample_rows
from tonnage.backends.cpu.loading import load_weights
from tonnage.backends.cpu.program import build_program
from tonnage.backends.cpu.release import release_pages
from tonnage.backends.cpu.resident import resident_bytes
from tonnage.backends.protocol import PooledRows, SampleRow, Span
from tonnage.core.plan import Plan

ARENA_KINDS = ("weight", "kv", "state", "scratch")


class CpuRuntime:
    """A loaded model: arena, program and threads. Close it to give the memory back."""

    def __init__(self, plan: Plan, isa: str, progress: Callable[[int], None] | None = None) -> None:
        """Allocate the arena of `plan`, build its program and stream the weights in."""
        self.plan = plan
        self._logits = plan.buffer("logits").offset
        self._pooled = plan.buffer("pooled").offset
        self._arena: Arena | None = Arena(plan.arena_bytes, huge_pages=True)
        self._address = self._arena.address
        self._executor: Executor | None = Executor(isa, plan.threads)
        self._program: Program | None = build_program(plan, self._arena)
        load_weights(plan, self._arena, self._program, self._executor, progress)

    def step(
        self,
        tokens: list[int],
        spans: list[Span],
        logit_rows: list[int],
        pooled: Sequence[PooledRows] = (),
    ) -> None:
        """Run one step over all spans' rows in order; logits of `logit_rows` (ascending) are kept.

        KV of the rows is written into the spans' pages. pooled: ascending too, of slots below the
        plan's concurrency, without logit rows. Without logit rows the head is not read. Releases
        the GIL.
        """
        assert self._executor is not None
        assert self._program is not None
        triples = [(span.pages, span.num_rows, span.position) for span in spans]
        sums = [(rows.first_row, rows.num_rows, rows.slot, rows.begins) for rows in pooled]
        self._executor.run(self._program, tokens, triples, logit_rows, sums)

    def watch(
        self,
        tokens: list[int],
        spans: list[Span],
        on_product: Callable[[tuple[str, ...], bytes], None],
    ) -> None:
        """Run a step without logits, and hand out what products of weights read."""
        from tonnage.backends.cpu.watch import watched  # needs numpy

        assert self._executor is not None
        assert self._arena is not None
        for names, rows in watched(self.plan, self._arena, self._executor, tokens, spans):
            on_product(names, rows)

    def pooled(self, slot: int) -> bytes:
        """Return the sum of a slot: float64 of d_model elements, as bytes.

        A hidden state is what the head reads: the residual stream after the final norm, float32.
        """
        assert self._arena is not None
        row_bytes = 8 * self.plan.d_model
        return self._arena.read(self._pooled + slot * row_bytes, row_bytes)

    def logits(self, index: int) -> bytes:
        """Return float32 logits of the last step's `index`-th logit row, as bytes."""
        assert self._arena is not None
        row_bytes = 4 * self.plan.vocab_size
        return self._arena.read(self._logits + index * row_bytes, row_bytes)

    def sample(self, rows: list[SampleRow], sampled: list[Sampled | str]) -> None:
        """Sample from logit rows of the last step; the threads share the rows. Releases the GIL."""
        assert self._arena is not None
        assert self._executor is not None
        vocab_size = self.plan.vocab_size
        sample_rows(self._executor, self._arena, self._logits, vocab_size, rows, sampled)

    def page_bytes(self, group: int) -> int:
        """Return the bytes of a KV page of `group`."""
        return self.plan.kv.groups[group].page_stride

    @property
    def state_bytes(self) -> int:
        """Bytes of a slot or snapshot."""
        return self.plan.slots.stride

    def read_page(self, group: int, page: int) -> bytes:
        """Return the bytes of a KV page of `group`."""
        assert self._arena is not None
        kv = self.plan.kv.groups[group]
        return self._arena.read(kv.offset + page * kv.page_stride, kv.page_stride)

    def write_page(self, group: int, page: int, data: bytes) -> None:
        """Replace a KV page of `group` by what `read_page` gave."""
        assert self._arena is not None
        kv = self.plan.kv.groups[group]
        assert len(data) == kv.page_stride
        self._arena.write(kv.offset + page * kv.page_stride, data)

    def copy_page(self, group: int, source: int, target: int) -> None:
        """Copy a KV page of `group`."""
        self.write_page(group, target, self.read_page(group, source))

    def release_pages(self, group: int, pages: list[int]) -> None:
        """Give the memory of KV pages back to the system; they read as zero afterwards."""
        kv = self.plan.kv.groups[group]
        begin = self._address + kv.offset
        release_pages(begin, kv.page_stride, pages)

    def read_state(self, place: int) -> bytes:
        """Return the state of a slot or snapshot."""
        assert self._arena is not None
        slots = self.plan.slots
        return self._arena.read(slots.offset + place * slots.stride, slots.stride)

    def write_state(self, place: int, data: bytes) -> None:
        """Replace the state of a slot or snapshot by what `read_state` gave."""
        assert self._arena is not None
        slots = self.plan.slots
        assert len(data) == slots.stride
        self._arena.write(slots.offset + place * slots.stride, data)

    def copy_state(self, source: int, target: int) -> None:
        """Copy the state of a slot or snapshot."""
        self.write_state(target, self.read_state(source))

    def resident_items(self) -> Mapping[str, int | None]:
        """Return what is in memory now of the items that tile the arena."""
        found, offset = {}, 0
        for item in self.plan.items:
            if item.kind in ARENA_KINDS:
                found[item.name] = resident_bytes(self._address + offset, item.planned_bytes)
                offset += item.planned_bytes
        return found

    def resident_page_bytes(self) -> int | None:
        """Return what is in memory now of all KV pages."""
        total = 0
        for group in self.plan.kv.groups:
            resident = resident_bytes(self._address + group.offset, group.nbytes)
            if resident is None:
                return None
            total += resident
        return total

    @property
    def kernels(self) -> str:
        """The instruction set whose kernels run."""
        assert self._executor is not None
        return self._executor.isa

    @property
    def thread_scratch_bytes(self) -> int:
        """Bytes that the threads' own scratch takes."""
        assert self._executor is not None
        return self._executor.scratch_bytes

    def close(self) -> None:
        """Give arena and threads back; the runtime cannot be used afterwards."""
        self._program = None
        self._executor = None
        self._arena = None
