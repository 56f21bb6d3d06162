"""Driving a CpuRuntime by hand: sequences with pages of their own, steps of any composition."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from support.page_tables import PageTables
from tonnage.backends.cpu.layout.plan import make_plan
from tonnage.backends.cpu.runtime import CpuRuntime
from tonnage.backends.protocol import Span
from tonnage.core.model_spec import ModelSpec
from tonnage.core.plan import KvFormat
from tonnage.core.workload import Workload

MAX_ROWS = 48


def open_runtime(
    spec: ModelSpec, isa: str, threads: int, *, context_tokens: int = 192, concurrency: int = 4,
    kv_format: KvFormat = "f16", max_rows: int = MAX_ROWS,
    formats: tuple[tuple[str, str], ...] = (),
) -> CpuRuntime:  # fmt: skip
    """Return a runtime that keeps the logits of every row."""
    workload = Workload(
        context_tokens=context_tokens, threads=threads, concurrency=concurrency,
        max_rows=max_rows, max_logit_rows=MAX_ROWS, kv_format=kv_format, formats=formats,
    )  # fmt: skip
    return CpuRuntime(make_plan(spec, workload), isa)


@dataclass
class Fed:
    """A sequence: its pages, its next position, its logits so far."""

    pages: PageTables
    position: int = 0
    logits: list[np.ndarray] = field(default_factory=list)

    def all_logits(self) -> np.ndarray:
        """Return (positions, vocab)."""
        return np.array(self.logits)


class Driver:
    """Feeds tokens to sequences; pages are handed out in the order of `page_order`.

    page_order: all pages of the first group; the others keep those of the ids they have.
    """

    def __init__(self, runtime: CpuRuntime, page_order: Sequence[int] | None = None) -> None:
        groups = runtime.plan.kv.groups
        order = range(groups[0].num_pages) if page_order is None else page_order
        self.runtime = runtime
        self._free = [[page for page in order if page < group.num_pages] for group in groups]

    def sequence(self) -> Fed:
        """Return a new sequence with pages for a whole context."""
        plan = self.runtime.plan
        pages = []
        for group, free in zip(plan.kv.groups, self._free, strict=True):
            count = group.num_pages // plan.concurrency
            pages.append(free[:count])
            assert len(pages[-1]) == count
            del free[:count]
        return Fed(PageTables(plan.kv.groups, pages))

    def step(self, pieces: Sequence[tuple[Fed, Sequence[int]]]) -> None:
        """Run one step of several sequences' next tokens and keep the logits of every row."""
        tokens = [token for _, piece in pieces for token in piece]
        spans = [
            Span(fed.pages.reach(fed.position, len(piece)), len(piece), fed.position)
            for fed, piece in pieces
        ]
        self.runtime.step(tokens, spans, list(range(len(tokens))))
        row = 0
        for fed, piece in pieces:
            for _ in piece:
                fed.logits.append(np.frombuffer(self.runtime.logits(row), np.float32))
                row += 1
            fed.position += len(piece)


def chunked_logits(
    runtime: CpuRuntime, tokens: Sequence[int], sizes: Sequence[int],
    page_order: Sequence[int] | None = None,
) -> np.ndarray:  # fmt: skip
    """Return the logits of all tokens fed in steps of `sizes`, the last one repeated."""
    driver = Driver(runtime, page_order)
    fed = driver.sequence()
    steps = iter(sizes)
    size = MAX_ROWS
    while fed.position < len(tokens):
        size = next(steps, size)
        driver.step([(fed, tokens[fed.position : fed.position + size])])
    return fed.all_logits()
