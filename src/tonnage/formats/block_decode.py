"""Reference decoders of the block formats of 32 elements, and of plain floats, in numpy.

Each takes whole blocks as uint8 of shape (num_blocks, block_bytes) and returns float32 of shape
(num_blocks, block_elems). Multiplications and additions are rounded in the order of ggml's
`dequantize_row_*` (ggml-quants.c), so results agree bit for bit. All fields are little-endian.
"""

import numpy as np
import numpy.typing as npt

Blocks = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

# ggml-common.h, kvalues_iq4nl: the non-linear 4-bit code book of IQ4_NL and IQ4_XS.
IQ4_VALUES = np.array(
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], dtype=np.int8
)
# OCP Microscaling 1.0, FP4 E2M1, doubled so that codes are whole; decode_mxfp4 halves the scale.
E2M1_DOUBLED = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], dtype=np.int8)


def half_at(blocks: Blocks, offset: int) -> Floats:
    """Return the float16 field at byte `offset` of every block, as float32 (num_blocks, 1)."""
    raw = np.ascontiguousarray(blocks[:, offset : offset + 2])
    return raw.view("<f2").astype(np.float32)


def low_then_high(codes: Blocks) -> Blocks:
    """Return (n, 2 k) nibbles of (n, k) bytes: all low nibbles, then all high ones."""
    return np.concatenate([codes & 15, codes >> 4], axis=1)


def decode_f32(blocks: Blocks) -> Floats:
    """Decode IEEE binary32."""
    return blocks.view("<f4").astype(np.float32)


def decode_f64(blocks: Blocks) -> Floats:
    """Decode IEEE binary64, rounded to float32."""
    with np.errstate(over="ignore"):
        return blocks.view("<f8").astype(np.float32)


def decode_f16(blocks: Blocks) -> Floats:
    """Decode IEEE binary16."""
    return blocks.view("<f2").astype(np.float32)


def decode_bf16(blocks: Blocks) -> Floats:
    """Decode bfloat16: the upper half of a binary32."""
    return (blocks.view("<u2").astype(np.uint32) << 16).view(np.float32)


def decode_q4_0(blocks: Blocks) -> Floats:
    """Decode d f16, 16 bytes of nibbles: d (q - 8)."""
    codes = low_then_high(blocks[:, 2:]).astype(np.int8) - np.int8(8)
    return half_at(blocks, 0) * codes.astype(np.float32)


def decode_q4_1(blocks: Blocks) -> Floats:
    """Decode d f16, m f16, 16 bytes of nibbles: d q + m."""
    codes = low_then_high(blocks[:, 4:]).astype(np.float32)
    return half_at(blocks, 0) * codes + half_at(blocks, 2)


def _five_bits(blocks: Blocks, offset: int) -> Blocks:
    """Return the codes of Q5_0 and Q5_1: 32 fifth bits at `offset`, nibbles behind them."""
    fifth = np.unpackbits(blocks[:, offset : offset + 4], axis=1, bitorder="little")
    return low_then_high(blocks[:, offset + 4 :]) | (fifth << np.uint8(4))


def decode_q5_0(blocks: Blocks) -> Floats:
    """Decode d f16, fifth bits u32, 16 bytes of nibbles: d (q - 16)."""
    codes = _five_bits(blocks, 2).astype(np.int8) - np.int8(16)
    return half_at(blocks, 0) * codes.astype(np.float32)


def decode_q5_1(blocks: Blocks) -> Floats:
    """Decode d f16, m f16, fifth bits u32, 16 bytes of nibbles: d q + m."""
    codes = _five_bits(blocks, 4).astype(np.float32)
    return half_at(blocks, 0) * codes + half_at(blocks, 2)


def decode_q8_0(blocks: Blocks) -> Floats:
    """Decode d f16, 32 signed bytes: d q."""
    return half_at(blocks, 0) * blocks[:, 2:].view(np.int8).astype(np.float32)


def decode_iq4_nl(blocks: Blocks) -> Floats:
    """Decode d f16, 16 bytes of nibbles: d value[q]."""
    codes = IQ4_VALUES[low_then_high(blocks[:, 2:])]
    return half_at(blocks, 0) * codes.astype(np.float32)


def decode_mxfp4(blocks: Blocks) -> Floats:
    """Decode an E8M0 byte e, 16 bytes of FP4 nibbles: 2^(e - 127) value[q].

    As in ggml, e = 255 is 2^128 and no NaN; infinity where that leaves binary32.
    """
    exponent = blocks[:, :1].astype(np.int32) - 128
    scale = np.ldexp(np.float32(1.0), exponent).astype(np.float32)
    codes = E2M1_DOUBLED[low_then_high(blocks[:, 1:])]
    with np.errstate(over="ignore"):
        product: Floats = scale * codes.astype(np.float32)
    return product
