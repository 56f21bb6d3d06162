"""Reference decoders of the block formats of 256 elements (K-quants and IQ4_XS), in numpy.

Contract and source as in `block_decode`; layouts are `block_q2_K` to `block_iq4_xs` of
ggml-common.h. n is the number of blocks throughout.
"""

import numpy as np

from tonnage.formats.block_decode import IQ4_VALUES, Blocks, Floats, half_at, low_then_high


def _fields(packed: Blocks, group: int, bits: int) -> Blocks:
    """Return (n, 256) codes of `bits` bits from (n, 32 bits).

    Each run of `group` bytes holds 8 / bits runs of `group` codes: first the lowest bits of every
    byte, then the next ones.
    """
    shifts = np.arange(0, 8, bits, dtype=np.uint8).reshape(1, 1, -1, 1)
    runs = packed.reshape(len(packed), -1, 1, group)
    codes: Blocks = (runs >> shifts) & np.uint8((1 << bits) - 1)
    return codes.reshape(len(packed), -1)


def _scaled(codes: Blocks, scale: Floats, minimum: Floats) -> Floats:
    """Return scale * code - minimum; scale and minimum are (n, sub-blocks) of equal width."""
    grouped = codes.reshape(*scale.shape, -1).astype(np.float32)
    return (scale[..., None] * grouped - minimum[..., None]).reshape(codes.shape)


def decode_q2_k(blocks: Blocks) -> Floats:
    """Decode 16 bytes of (scale, minimum) nibbles, 64 of 2-bit codes, d f16, dmin f16."""
    packed = blocks[:, :16]
    scale = half_at(blocks, 80) * (packed & 15).astype(np.float32)
    minimum = half_at(blocks, 82) * (packed >> 4).astype(np.float32)
    return _scaled(_fields(blocks[:, 16:80], 32, 2), scale, minimum)


def _q3_scales(packed: Blocks) -> Floats:
    """Return (n, 16) scales of -32 to 31: low nibbles in bytes 0 to 7, upper bits in 8 to 11."""
    low = low_then_high(packed[:, :8])
    high = (packed[:, None, 8:] >> np.array([0, 2, 4, 6], np.uint8)[:, None]) & 3
    codes = low | (high.reshape(low.shape) << 4)
    return (codes.astype(np.int8) - np.int8(32)).astype(np.float32)


def decode_q3_k(blocks: Blocks) -> Floats:
    """Decode 32 bytes of third bits, 64 of 2-bit codes, 12 of scales, d f16: d scale (q - 4)."""
    third = _fields(blocks[:, :32], 32, 1)
    codes = (_fields(blocks[:, 32:96], 32, 2) | (third << 2)).astype(np.int8) - np.int8(4)
    scale = half_at(blocks, 108) * _q3_scales(blocks[:, 96:108])
    grouped = codes.reshape(len(blocks), 16, 16).astype(np.float32)
    return (scale[..., None] * grouped).reshape(codes.shape)


def _q4_scales(packed: Blocks) -> tuple[Blocks, Blocks]:
    """Return (n, 8) scales and minimums of 6 bits from the 12 bytes that Q4_K and Q5_K share."""
    first, second, third = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    scale = np.concatenate([first & 63, (third & 15) | (first >> 6 << 4)], axis=1)
    minimum = np.concatenate([second & 63, (third >> 4) | (second >> 6 << 4)], axis=1)
    return scale, minimum


def _scaled_by_header(blocks: Blocks, codes: Blocks) -> Floats:
    scale, minimum = _q4_scales(blocks[:, 4:16])
    scale_by = half_at(blocks, 0) * scale.astype(np.float32)
    return _scaled(codes, scale_by, half_at(blocks, 2) * minimum.astype(np.float32))


def decode_q4_k(blocks: Blocks) -> Floats:
    """Decode d f16, dmin f16, 12 bytes of scales, 128 of nibbles: d scale q - dmin minimum."""
    return _scaled_by_header(blocks, _fields(blocks[:, 16:], 32, 4))


def decode_q5_k(blocks: Blocks) -> Floats:
    """Decode as Q4_K with 32 bytes of fifth bits before the nibbles."""
    fifth = _fields(blocks[:, 16:48], 32, 1)
    return _scaled_by_header(blocks, _fields(blocks[:, 48:], 32, 4) | (fifth << np.uint8(4)))


def decode_q6_k(blocks: Blocks) -> Floats:
    """Decode 128 bytes of nibbles, 64 of upper bits, 16 signed scales, d f16: d scale (q - 32)."""
    low, high = _fields(blocks[:, :128], 64, 4), _fields(blocks[:, 128:192], 32, 2)
    codes = (low | (high << 4)).astype(np.int8) - np.int8(32)
    scale = half_at(blocks, 208) * blocks[:, 192:208].view(np.int8).astype(np.float32)
    grouped = codes.reshape(len(blocks), 16, 16).astype(np.float32)
    return (scale[..., None] * grouped).reshape(codes.shape)


def decode_iq4_xs(blocks: Blocks) -> Floats:
    """Decode d f16, upper scale bits u16, 4 bytes of scale nibbles, 128 of nibbles.

    d (scale - 32) value[q], with sub-blocks of 32 that order their nibbles as IQ4_NL.
    """
    low = _fields(blocks[:, 4:8], 1, 4)
    high = _fields(blocks[:, 2:4], 1, 2)
    scales = (low | (high << 4)).astype(np.int8) - np.int8(32)
    scale = half_at(blocks, 0) * scales.astype(np.float32)
    codes = IQ4_VALUES[_fields(blocks[:, 8:], 16, 4)]
    grouped = codes.reshape(len(blocks), 8, 32).astype(np.float32)
    return (scale[..., None] * grouped).reshape(codes.shape)
