"""Reference decoders of formats with codes of one and two bits, and of NVFP4, in numpy.

Contract and source as in `block_decode`; layouts: `block_q1_0` to `block_tq2_0` of ggml-common.h.
"""

import numpy as np

from tonnage.formats.block_decode import E2M1_DOUBLED, Blocks, Floats, half_at, low_then_high

_POWERS = np.array([1, 3, 9, 27, 81], np.uint8)[:, None]


def decode_q1_0(blocks: Blocks) -> Floats:
    """Decode d f16, 16 bytes of signs: d where a bit is set, else -d."""
    bits = np.unpackbits(blocks[:, 2:], axis=1, bitorder="little")
    return half_at(blocks, 0) * (2 * bits.astype(np.float32) - 1)


def decode_q2_0(blocks: Blocks) -> Floats:
    """Decode d f16, 16 bytes of 2-bit codes, the lowest bits first: d (q - 1)."""
    codes = (blocks[:, 2:, None] >> np.array([0, 2, 4, 6], np.uint8)) & 3
    return half_at(blocks, 0) * (codes.reshape(len(blocks), -1).astype(np.float32) - 1)


def _digits(packed: Blocks, count: int) -> Blocks:
    """Return `count` runs of ternary digits: the leading digit of every byte, the next, ..."""
    left = packed[:, None, :] * _POWERS[:count]
    return ((left.astype(np.uint16) * 3) >> 8).astype(np.uint8).reshape(len(packed), -1)


def decode_tq1_0(blocks: Blocks) -> Floats:
    """Decode 32 and 16 bytes of five ternary codes, 4 bytes of four, d f16: d (q - 1)."""
    parts = (_digits(blocks[:, :32], 5), _digits(blocks[:, 32:48], 5), _digits(blocks[:, 48:52], 4))
    return half_at(blocks, 52) * (np.concatenate(parts, axis=1).astype(np.float32) - 1)


def decode_tq2_0(blocks: Blocks) -> Floats:
    """Decode 64 bytes of 2-bit codes in runs of 32, d f16: d (q - 1)."""
    shifts = np.array([0, 2, 4, 6], np.uint8)[:, None]
    codes = (blocks[:, :64].reshape(len(blocks), 2, 1, 32) >> shifts) & 3
    return half_at(blocks, 64) * (codes.reshape(len(blocks), -1).astype(np.float32) - 1)


def _magnitudes(codes: Blocks) -> Floats:
    """Return what FP8 E4M3 codes stand for but for their sign, 480 for what is no number."""
    exponent, fraction = (codes >> 3 & 15).astype(np.int32), (codes & 7).astype(np.float32) / 8
    normal = np.ldexp(1 + fraction, exponent - 7)
    return np.where(exponent == 0, np.ldexp(fraction, -6), normal).astype(np.float32)


def decode_f8_e4m3(blocks: Blocks) -> Floats:
    """Decode FP8 E4M3 (OCP 8-bit Floating Point Specification 1.0); 127 and 255 are NaN."""
    values = np.where(blocks & 127 == 127, np.float32(np.nan), _magnitudes(blocks))
    return np.where(blocks & 128, -values, values)


def decode_nvfp4(blocks: Blocks) -> Floats:
    """Decode four E4M3 scales and four times 8 bytes of FP4 nibbles: scale value[q], of 16."""
    codes = low_then_high(blocks[:, 4:].reshape(-1, 8)).reshape(len(blocks), 4, 16)
    # As in ggml 127 is 0, and the sign of a scale does not count.
    scales = np.where(blocks[:, :4] == 127, 0, _magnitudes(blocks[:, :4])) * np.float32(0.5)
    values: Floats = scales[..., None] * E2M1_DOUBLED[codes].astype(np.float32)
    return values.reshape(len(blocks), -1)
