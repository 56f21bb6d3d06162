"""What products read, for calibration: a plan's program cut before each of them."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from tonnage._native import Arena, Executor, acts_bytes
from tonnage.backends.cpu.program import build_program
from tonnage.backends.protocol import Span
from tonnage.core.operands import Activations
from tonnage.core.plan import Plan
from tonnage.core.steps import Gated, Matmul, Step

# A block of activations as the kernels lay it out (ActBlock of native/include/tonnage/ops.h).
_BLOCK = np.dtype([("codes", "i1", 32), ("scale", "<f4"), ("sums", "<i4", 7)])


def watched(
    plan: Plan, arena: Arena, executor: Executor, tokens: list[int], spans: Sequence[Span]
) -> Iterator[tuple[tuple[str, ...], bytes]]:
    """Run a step and yield (names of matrices, float32 rows that they multiply) of each product.

    Every row has logits as far as the steps know, so that none is left out on the way; what
    follows the last product's input is not computed.
    """
    triples = [(span.pages, span.num_rows, span.position) for span in spans]
    rows = list(range(len(tokens)))
    for steps, product in _parts(plan.steps):
        executor.run(build_program(plan, arena, steps), tokens, triples, rows, [])
        yield product.weights, _read(plan, arena, product.input, len(tokens)).tobytes()


def _parts(steps: Sequence[Step]) -> Iterator[tuple[list[Step], Matmul | Gated]]:
    """Yield each product with the steps from the one before it on."""
    begun: list[Step] = []
    for step in steps:
        if isinstance(step, Matmul | Gated):
            yield begun, step
            begun = []
        begun.append(step)


def _read(plan: Plan, arena: Arena, acts: Activations, rows: int) -> npt.NDArray[np.float32]:
    if acts.values:
        offset = plan.buffer(acts.buffer + "_values").offset
        data = arena.read(offset, 4 * rows * acts.cols)
        return np.frombuffer(data, np.float32).reshape(rows, acts.cols)
    offset = plan.buffer(acts.buffer + "_codes").offset
    data = arena.read(offset, acts_bytes(rows, acts.cols))
    blocks = np.frombuffer(data, _BLOCK).reshape(rows, -1)[:, :-1]
    values: npt.NDArray[np.float32] = blocks["codes"] * blocks["scale"][:, :, None]
    return values.reshape(rows, -1)[:, : acts.cols]
