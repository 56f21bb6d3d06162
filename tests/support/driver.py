"""Driving a Runtime by hand: sequences with pages of their own, steps of any composition."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tonnage.core.layout import PAGE_TOKENS
from tonnage.core.model_spec import ModelSpec
from tonnage.planner.plan import Workload, make_plan
from tonnage.runtime.executor import Runtime, Span

MAX_ROWS = 48


def open_runtime(
    spec: ModelSpec, isa: str, threads: int, *, context_tokens: int = 192, concurrency: int = 4,
    precision: str | None = None,
) -> Runtime:  # fmt: skip
    """Return a runtime that keeps the logits of every row."""
    workload = Workload(
        context_tokens=context_tokens, threads=threads, concurrency=concurrency,
        max_rows=MAX_ROWS, max_logit_rows=MAX_ROWS, precision=precision,
    )  # fmt: skip
    return Runtime(make_plan(spec, workload), isa)


@dataclass
class Fed:
    """A sequence: its pages per group, its next position, its logits so far."""

    pages: list[list[int]]
    position: int = 0
    logits: list[np.ndarray] = field(default_factory=list)

    def all_logits(self) -> np.ndarray:
        """Return (positions, vocab)."""
        return np.array(self.logits)


class Driver:
    """Feeds tokens to sequences; pages are handed out in the order of `page_order`."""

    def __init__(self, runtime: Runtime, page_order: Sequence[int] | None = None) -> None:
        order = range(runtime.plan.kv.groups[0].num_pages) if page_order is None else page_order
        self.runtime = runtime
        self._free = list(order)

    def sequence(self) -> Fed:
        """Return a new sequence with pages for a whole context."""
        count = -(-self.runtime.plan.context_tokens // PAGE_TOKENS)
        pages, self._free = self._free[:count], self._free[count:]
        assert len(pages) == count
        return Fed([pages])

    def step(self, pieces: Sequence[tuple[Fed, Sequence[int]]]) -> None:
        """Run one step of several sequences' next tokens and keep the logits of every row."""
        tokens = [token for _, piece in pieces for token in piece]
        spans = [Span(fed.pages, len(piece), fed.position) for fed, piece in pieces]
        self.runtime.step(tokens, spans, list(range(len(tokens))))
        row = 0
        for fed, piece in pieces:
            for _ in piece:
                fed.logits.append(np.frombuffer(self.runtime.logits(row), np.float32))
                row += 1
            fed.position += len(piece)


def chunked_logits(
    runtime: Runtime, tokens: Sequence[int], sizes: Sequence[int],
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
