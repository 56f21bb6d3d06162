"""What each format loses of each matrix, measured on some of its rows.

The error of a product's result follows from that of the matrix and from the second moments of what
it multiplies. As a share of the result it takes the place of the estimator's errors of formats;
how much a kind of matrix matters stays the estimator's.
"""

import os
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from tonnage._native import Executor, requantize
from tonnage.core.block_format import BY_NAME
from tonnage.core.checkpoint import TensorEntry
from tonnage.core.layout import Layout
from tonnage.core.model_spec import ModelSpec
from tonnage.formats.codec import dequantize
from tonnage.packing.calibration import Calibration
from tonnage.planner.quality.allocator import menus
from tonnage.planner.quality.estimate import sensitivity, width_factor

# Rows that are tried, in runs of the first number from evenly spaced places.
RUN_ROWS, NUM_RUNS = 32, 8
Importance = npt.NDArray[np.float32]
Losses = dict[tuple[str, str], float]


def measure_losses(
    spec: ModelSpec,
    layout: Layout,
    calibration: Calibration | None,
    executor: Executor,
    on_matrix: Callable[[int, int], None] | None = None,
) -> Losses:
    """Return (matrix, format) -> what it adds to the mean divergence, for all that it may be."""
    found: Losses = {}
    choices = menus(spec, layout)
    for number, (name, menu) in enumerate(choices.items(), 1):
        importance = None if calibration is None else calibration.importance(spec, name)
        weight = sensitivity(spec, name) * width_factor(spec.d_model)
        for fmt, error in _errors(spec, name, [one.format for one in menu], importance, executor):
            found[name, fmt] = weight * error
        if on_matrix is not None:
            on_matrix(number, len(choices))
    return found


def _errors(
    spec: ModelSpec, name: str, menu: list[str], importance: Importance | None, executor: Executor
) -> Iterator[tuple[str, float]]:
    """Yield each format of a menu, the matrix's own first, with its squared relative error."""
    entry = spec.weights[name]
    yield entry.format.name, 0.0
    if len(menu) == 1:
        return
    raw, rows = _sample(entry)
    shape = (rows, entry.shape[-1])
    exact = dequantize(entry.format, raw, shape).astype(np.float64)
    weights = np.ones(shape[1]) if importance is None else importance.astype(np.float64)
    size = float((weights * exact**2).sum())
    for fmt in menu[1:]:
        data = rewritten(executor, entry, fmt, raw, importance)
        held = dequantize(BY_NAME[fmt], data, shape)
        yield fmt, float((weights * (held - exact) ** 2).sum()) / size if size else 0.0


def _sample(entry: TensorEntry) -> tuple[bytes, int]:
    """Return the bytes of some rows, and how many they are."""
    rows = int(np.prod(entry.shape[:-1]))
    row_bytes = entry.nbytes // rows
    count = min(RUN_ROWS, rows)
    last = (rows - count) // RUN_ROWS
    starts = sorted({RUN_ROWS * (last * i // max(NUM_RUNS - 1, 1)) for i in range(NUM_RUNS)})
    with open(entry.file, "rb") as file:
        parts = [
            os.pread(file.fileno(), count * row_bytes, entry.offset + start * row_bytes)
            for start in starts
        ]
    return b"".join(parts), count * len(starts)


def rewritten(
    executor: Executor, entry: TensorEntry, fmt: str, rows: bytes, importance: Importance | None
) -> bytes:
    """Return rows of a tensor in another format. Raises InputError where values have no form."""
    return requantize(
        executor,
        source=entry.format.ggml_type,
        target=BY_NAME[fmt].ggml_type,
        cols=entry.shape[-1],
        data=rows,
        importance=b"" if importance is None else importance.tobytes(),
    )
