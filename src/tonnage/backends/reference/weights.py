"""The weights of a plan as float64 arrays, with the values that the files hold."""

import os
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from tonnage.core.block_format import BY_NAME
from tonnage.core.errors import FileFormatError
from tonnage.core.model_spec import scale_name
from tonnage.core.plan import Plan, Source
from tonnage.formats.codec import dequantize

Array = npt.NDArray[np.float64]
SCALE_BLOCK = 128


def read_weights(plan: Plan, on_place: Callable[[int], None] | None = None) -> dict[str, Array]:
    """Return name -> values of every matrix and vector; matrices are (rows, cols).

    A stack of matrices is (count, rows, cols). Formats that the plan would requantize to do not
    matter here. on_place: see `tonnage.backends.protocol.Backend`. Raises FileFormatError when a
    file ends early.
    """
    found: dict[str, Array] = {}
    placed = 0
    for matrix in plan.matrices:
        stack = (matrix.count,) if matrix.count > 1 else ()
        shape = (*stack, matrix.rows, matrix.cols)
        found[matrix.name] = _read(matrix.name, matrix.source, shape)
        placed += matrix.nbytes
        if on_place is not None:
            on_place(placed)
    for vector in plan.vectors:
        found[vector.name] = _read(vector.name, vector.source, (vector.count,)) + vector.add
    for matrix in plan.matrices:
        if scale_name(matrix.name) in found:
            found[matrix.name] *= _spread(found[scale_name(matrix.name)], matrix.rows, matrix.cols)
    return found


def _spread(scales: Array, rows: int, cols: int) -> Array:
    """Return scales of a matrix in a form that multiplies it: one, one per row, or per element."""
    if scales.size in (1, rows):
        return scales[:, None]
    blocks = scales.reshape(-(-rows // SCALE_BLOCK), -(-cols // SCALE_BLOCK))
    return blocks.repeat(SCALE_BLOCK, axis=0)[:rows].repeat(SCALE_BLOCK, axis=1)[:, :cols]


def _read(name: str, source: Source, shape: tuple[int, ...]) -> Array:
    fmt = BY_NAME[source.format]
    nbytes = fmt.nbytes(shape)
    with open(source.file, "rb") as file:
        data = os.pread(file.fileno(), nbytes, source.offset)
    if len(data) != nbytes:
        raise FileFormatError(
            f"{source.file} ended while {name} was read at byte {source.offset}; download it again."
        )
    return dequantize(fmt, data, shape).astype(np.float64)
