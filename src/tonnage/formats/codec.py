"""The reference codec of every block format: what stored bytes mean, exactly.

Slow and plain, in numpy; kernels and loaders are tested against it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tonnage.core import block_format as bf
from tonnage.core.block_format import BlockFormat
from tonnage.core.errors import FileFormatError, UnsupportedTypeError
from tonnage.formats import block_decode, block_encode, grid_decode, low_decode, super_decode
from tonnage.formats.block_decode import Blocks, Floats
from tonnage.formats.block_random import fill_scales, random_floats

if TYPE_CHECKING:
    from typing_extensions import Buffer

# Decoded at a time, so that temporaries stay small beside a large result.
_CHUNK_ELEMS = 1 << 20

_DECODERS: dict[BlockFormat, Callable[[Blocks], Floats]] = {
    bf.F32: block_decode.decode_f32,
    bf.F16: block_decode.decode_f16,
    bf.BF16: block_decode.decode_bf16,
    bf.Q4_0: block_decode.decode_q4_0,
    bf.Q4_1: block_decode.decode_q4_1,
    bf.Q5_0: block_decode.decode_q5_0,
    bf.Q5_1: block_decode.decode_q5_1,
    bf.Q8_0: block_decode.decode_q8_0,
    bf.IQ4_NL: block_decode.decode_iq4_nl,
    bf.MXFP4: block_decode.decode_mxfp4,
    bf.Q2_K: super_decode.decode_q2_k,
    bf.Q3_K: super_decode.decode_q3_k,
    bf.Q4_K: super_decode.decode_q4_k,
    bf.Q5_K: super_decode.decode_q5_k,
    bf.Q6_K: super_decode.decode_q6_k,
    bf.IQ4_XS: super_decode.decode_iq4_xs,
    bf.F64: block_decode.decode_f64,
    bf.F8_E4M3: low_decode.decode_f8_e4m3,
    bf.NVFP4: low_decode.decode_nvfp4,
    bf.IQ1_S: grid_decode.decode_iq1_s,
    bf.IQ1_M: grid_decode.decode_iq1_m,
    bf.IQ2_XXS: grid_decode.decode_iq2_xxs,
    bf.IQ2_XS: grid_decode.decode_iq2_xs,
    bf.IQ2_S: grid_decode.decode_iq2_s,
    bf.IQ3_XXS: grid_decode.decode_iq3_xxs,
    bf.IQ3_S: grid_decode.decode_iq3_s,
    bf.TQ1_0: low_decode.decode_tq1_0,
    bf.TQ2_0: low_decode.decode_tq2_0,
    bf.Q1_0: low_decode.decode_q1_0,
    bf.Q2_0: low_decode.decode_q2_0,
}
_ENCODERS: dict[BlockFormat, Callable[[Floats], Blocks]] = {
    bf.Q8_0: block_encode.encode_q8_0,
    bf.Q4_0: block_encode.encode_q4_0,
    bf.Q4_1: block_encode.encode_q4_1,
}


def dequantize(fmt: BlockFormat, data: "Buffer", shape: tuple[int, ...]) -> Floats:
    """Return the float32 values, of `shape`, that the bytes-like `data` holds in format `fmt`.

    Exact: agrees bit for bit with ggml's `dequantize_row_*`. shape is row-major. Raises
    FileFormatError when `data` is not `fmt.nbytes(shape)` bytes, UnsupportedTypeError when blocks
    do not divide the rows.
    """
    raw = np.frombuffer(memoryview(data), dtype=np.uint8)
    expected = fmt.nbytes(shape)
    if raw.size != expected:
        raise FileFormatError(
            f"A {fmt.name} tensor of shape {shape} takes {expected:,} bytes, not {raw.size:,}."
        )
    # Scales of a damaged file may be infinite or NaN; what follows from them is the answer.
    with np.errstate(invalid="ignore", over="ignore"):
        return _decode_chunks(fmt, raw.reshape(-1, fmt.block_bytes)).reshape(shape)


def _decode_chunks(fmt: BlockFormat, blocks: Blocks) -> Floats:
    values = np.empty((len(blocks), fmt.block_elems), np.float32)
    step = _CHUNK_ELEMS // fmt.block_elems
    for start in range(0, len(blocks), step):
        values[start : start + step] = _DECODERS[fmt](blocks[start : start + step])
    return values


def quantize(fmt: BlockFormat, values: npt.NDArray[np.float32]) -> bytes:
    """Return `values` (row-major float32, any shape) rounded to the nearest codes of `fmt`.

    Bit for bit as ggml's `quantize_row_*_ref`, for Q8_0, Q4_0 and Q4_1; F32 is copied, F16 and
    BF16 are rounded to nearest, ties to even. Raises UnsupportedTypeError for other formats and
    for rows that blocks do not divide, FileFormatError when a value is not finite or its scale
    exceeds float16.
    """
    fmt.nbytes(values.shape)
    if not np.isfinite(values).all():
        bad = int(values.size - np.isfinite(values).sum())
        raise FileFormatError(
            f"{bad:,} of {values.size:,} values are not finite, so they have no {fmt.name} form; "
            "the checkpoint is damaged, download it again."
        )
    if fmt.block_elems == 1:
        return _float_bytes(fmt, values)
    if fmt not in _ENCODERS:
        raise UnsupportedTypeError(
            f"{fmt.name} can be read but not written; quantize to Q8_0, Q4_0 or Q4_1."
        )
    with np.errstate(over="ignore", invalid="ignore"):
        blocks = _ENCODERS[fmt](values.astype(np.float32).reshape(-1, fmt.block_elems))
    _refuse_infinite_scale(fmt, blocks)
    return blocks.tobytes()


def _refuse_infinite_scale(fmt: BlockFormat, blocks: Blocks) -> None:
    header_bytes = fmt.block_bytes - (fmt.block_elems if fmt is bf.Q8_0 else fmt.block_elems // 2)
    header = np.ascontiguousarray(blocks[:, :header_bytes]).view("<f2")
    bad = int((~np.isfinite(header)).any(axis=1).sum())
    if bad:
        raise FileFormatError(
            f"{bad:,} of {len(blocks):,} blocks hold values too large for the float16 scale of "
            f"{fmt.name}; keep this tensor in F32 or BF16."
        )


def _float_bytes(fmt: BlockFormat, values: npt.NDArray[np.float32]) -> bytes:
    with np.errstate(over="ignore"):
        if fmt is bf.BF16:
            bits = np.ascontiguousarray(values, "<f4").view("<u4").astype(np.uint64)
            stored = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()
        else:
            stored = values.astype({"F16": "<f2", "F32": "<f4", "F64": "<f8"}[fmt.name]).tobytes()
    if not np.isfinite(dequantize(fmt, stored, values.shape)).all():
        raise FileFormatError(
            f"The largest magnitude {np.abs(values).max():.4g} exceeds what {fmt.name} holds; "
            "keep this tensor in F32."
        )
    return stored


def random_blocks(fmt: BlockFormat, shape: tuple[int, ...], rng: np.random.Generator) -> bytes:
    """Return bytes of a tensor of `shape`: every code and sub-scale equally likely, sane scales.

    Scales are finite, and such that weights stay below about 1 in magnitude; signs of scales and
    minimums vary where the format allows it. Includes codes that no quantizer emits (-128 in
    Q8_0). Raises UnsupportedTypeError when blocks do not divide the rows.
    """
    nbytes = fmt.nbytes(shape)
    if fmt.block_elems == 1:
        values = random_floats(nbytes // fmt.block_bytes, rng)
        return _float_bytes(fmt, values)
    blocks = rng.integers(0, 256, (nbytes // fmt.block_bytes, fmt.block_bytes), dtype=np.uint8)
    fill_scales(fmt, blocks, rng)
    return blocks.tobytes()
