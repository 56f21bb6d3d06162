"""Rounding quantizers of the simple block formats, bit for bit as ggml's `quantize_row_*_ref`.

Each takes float32 of shape (num_blocks, 32) and returns uint8 of shape (num_blocks, block_bytes).
"""

import numpy as np

from tonnage.formats.block_decode import Blocks, Floats


def _inverse(scale: Floats) -> Floats:
    """Return 1 / scale, and 0 where the scale is 0 or too small to have a finite inverse."""
    with np.errstate(divide="ignore", over="ignore"):
        inverse: Floats = np.float32(1) / scale
    return np.where(np.isfinite(inverse), inverse, np.float32(0))


def _half_bytes(scale: Floats) -> Blocks:
    return scale.astype("<f2").view(np.uint8)


def _pack_nibbles(codes: Blocks) -> Blocks:
    return codes[:, :16] | (codes[:, 16:] << np.uint8(4))


def encode_q8_0(values: Floats) -> Blocks:
    """Encode d = max |x| / 127 and q = x / d, halves rounded away from zero."""
    scale = np.abs(values).max(axis=1, keepdims=True) / np.float32(127)
    scaled = values * _inverse(scale)
    whole = np.floor(np.abs(scaled))
    rounded = whole + np.floor(2 * (np.abs(scaled) - whole))
    codes = np.copysign(rounded, scaled).astype(np.int8)
    return np.concatenate([_half_bytes(scale), codes.view(np.uint8)], axis=1)


def encode_q4_0(values: Floats) -> Blocks:
    """Encode d = (the value of largest magnitude) / -8 and q = x / d + 8, at most 15."""
    largest = np.abs(values).argmax(axis=1)[:, None]
    # Adding 0 turns -0 into 0, from which ggml starts its search.
    extreme = np.take_along_axis(values, largest, axis=1) + np.float32(0)
    scale = extreme / np.float32(-8)
    codes = np.trunc(values * _inverse(scale) + np.float32(8.5)).astype(np.uint8)
    return np.concatenate([_half_bytes(scale), _pack_nibbles(np.minimum(codes, 15))], axis=1)


def encode_q4_1(values: Floats) -> Blocks:
    """Encode m = min x, d = (max x - m) / 15 and q = (x - m) / d, at most 15."""
    low = values.min(axis=1, keepdims=True)
    scale = (values.max(axis=1, keepdims=True) - low) / np.float32(15)
    codes = np.trunc((values - low) * _inverse(scale) + np.float32(0.5)).astype(np.uint8)
    header = [_half_bytes(scale), _half_bytes(low)]
    return np.concatenate([*header, _pack_nibbles(np.minimum(codes, 15))], axis=1)
