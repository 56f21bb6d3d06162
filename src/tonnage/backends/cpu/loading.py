"""Filling the arena: weights from files into their planned place."""

import os
import struct
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import isfinite

from tonnage._native import Arena, Executor, InputError, Program
from tonnage.core.block_format import BY_NAME
from tonnage.core.errors import FileFormatError
from tonnage.core.model_spec import scale_name
from tonnage.core.plan import MatrixPlan, Plan, VectorPlan

WeightArgs = tuple[int, int, int, int, int]


def weight_args(matrix: MatrixPlan) -> WeightArgs:
    """Return the matrix as the native core states it."""
    layout = BY_NAME[matrix.format].ggml_type
    return (matrix.offset, layout, matrix.rows, matrix.cols, matrix.panel_stride)


@contextmanager
def _open_files(names: set[str]) -> Iterator[dict[str, int]]:
    files: dict[str, int] = {}
    try:
        for name in sorted(names):
            files[name] = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        yield files
    finally:
        for fd in files.values():
            os.close(fd)


def load_weights(
    plan: Plan, arena: Arena, program: Program, executor: Executor,
    progress: Callable[[int], None] | None = None,
) -> None:  # fmt: skip
    """Stream every weight of `plan` into `arena`; `progress` receives the bytes placed so far.

    The files' bytes pass through one small buffer per thread. Raises FileFormatError when a file
    ends early.
    """
    names = {m.source.file for m in plan.matrices} | {v.source.file for v in plan.vectors}
    with _open_files(names) as files:
        vectors = {v.name: _read_vector(v, files[v.source.file]) for v in plan.vectors}
        for vector in plan.vectors:
            values = vectors[vector.name]
            arena.write(vector.offset, values.tobytes().ljust(vector.nbytes, b"\0"))
        _write_ropes(plan, arena, vectors)
        done = 0
        for matrix in plan.matrices:
            for one in _stack(matrix):
                scales = vectors.get(scale_name(one.name), array("f"))
                _load_matrix(one, files[matrix.source.file], program, executor, scales)
            done += matrix.nbytes
            if progress is not None:
                progress(done)


def _stack(matrix: MatrixPlan) -> Iterator[MatrixPlan]:
    """Yield the matrices of a stack, each with its own place in the file and in the arena."""
    nbytes = matrix.nbytes // matrix.count
    file_bytes = BY_NAME[matrix.source.format].nbytes((matrix.rows, matrix.cols))
    for i in range(matrix.count):
        source = replace(matrix.source, offset=matrix.source.offset + i * file_bytes)
        offset = matrix.offset + i * nbytes
        yield replace(matrix, count=1, offset=offset, nbytes=nbytes, source=source)


def _load_matrix(
    matrix: MatrixPlan, fd: int, program: Program, executor: Executor, scales: "array[float]"
) -> None:
    try:
        executor.load_matrix(
            program=program,
            fd=fd,
            file_offset=matrix.source.offset,
            source=BY_NAME[matrix.source.format].ggml_type,
            target=weight_args(matrix),
            scales=scales,
        )
    except InputError as error:
        raise FileFormatError(f"{matrix.source.file}: {matrix.name}: {error}.") from error
    except RuntimeError as error:
        raise FileFormatError(
            f"{matrix.source.file} ended while {matrix.name} was read at byte "
            f"{matrix.source.offset}; download it again."
        ) from error


def _read_vector(vector: VectorPlan, fd: int) -> "array[float]":
    fmt = BY_NAME[vector.source.format]
    nbytes = fmt.nbytes((vector.count,))
    raw = os.pread(fd, nbytes, vector.source.offset)
    if len(raw) != nbytes:
        raise FileFormatError(
            f"{vector.source.file} ended while {vector.name} was read at byte "
            f"{vector.source.offset}; download it again."
        )
    values = _floats(fmt.name, raw)
    if vector.add:
        values = array("f", [value + vector.add for value in values])
    return values


def _floats(name: str, raw: bytes) -> "array[float]":
    if name == "F64":
        return array("f", array("d", raw))
    if name == "F32":
        return array("f", raw)
    if name == "F16":
        return array("f", struct.unpack(f"<{len(raw) // 2}e", raw))
    if name == "BF16":
        wide = bytearray(2 * len(raw))
        wide[2::4] = raw[0::2]
        wide[3::4] = raw[1::2]
        return array("f", bytes(wide))
    raise FileFormatError(f"A vector is stored as {name}; only F64, F32, F16 and BF16 are known.")


def _write_ropes(plan: Plan, arena: Arena, vectors: dict[str, "array[float]"]) -> None:
    for rope in plan.ropes:
        values = list(rope.frequencies)
        if rope.factors is not None:
            factors = vectors[rope.factors]
            _require_divisors(plan, rope.factors, factors)
            values = [value / factor for value, factor in zip(values, factors, strict=True)]
        arena.write(rope.offset, array("f", values).tobytes())


def _require_divisors(plan: Plan, name: str, factors: "array[float]") -> None:
    wrong = next((factor for factor in factors if not isfinite(factor) or factor == 0), None)
    if wrong is not None:
        file = next(vector.source.file for vector in plan.vectors if vector.name == name)
        raise FileFormatError(
            f"{file}: {name} holds {wrong}, and angles are divided by it; download it again."
        )
