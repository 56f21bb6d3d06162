"""The weights of a plan as float64 arrays, with the values that the files hold."""

import os
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from tonnage.core.block_format import BY_NAME
from tonnage.core.errors import FileFormatError
from tonnage.core.plan import Plan, Source
from tonnage.formats.codec import dequantize

Array = npt.NDArray[np.float64]


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
    return found


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
