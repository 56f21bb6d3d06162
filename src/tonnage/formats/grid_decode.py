"""Reference decoders of the IQ formats of one to three bits, in numpy.

Contract and source as in `block_decode`; layouts: `block_iq1_s` to `block_iq3_s` of ggml-common.h.
A block names rows of a code book of eight or four levels; scales are odd multiples of a float16.
All products are exact in float32, in any order. n is the number of blocks throughout.
"""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from tonnage import _native
from tonnage.formats.block_decode import Blocks, Floats, half_at

# Whole numbers of any width.
Words = npt.NDArray[np.integer[Any]]
_IQ2_LEVELS = np.array([8, 25, 43], np.float32)
_IQ3_XXS_LEVELS = np.array([4, 12, 20, 28, 36, 44, 52, 62], np.float32)
_IQ3_S_LEVELS = np.arange(1, 16, 2, dtype=np.float32)
_IQ1_LEVELS = np.array([-1, 0, 1], np.float32)
_IQ1_SHIFT = np.float32(0.125)


@cache
def _grid(name: str, width: int) -> Blocks:
    """Return the code book of a format as numbers of levels, (rows, width)."""
    bits = 16 // width if width == 8 else 3
    words = np.frombuffer(_native.grids()[name], "<u2")[:, None]
    levels = (words >> np.arange(width, dtype=np.uint16) * np.uint16(bits)) & ((1 << bits) - 1)
    found: Blocks = levels.astype(np.uint8)
    return found


def _words(blocks: Blocks, begin: int, end: int, kind: str) -> Words:
    """Return bytes begin to end as little-endian words of numpy type `kind`."""
    return np.ascontiguousarray(blocks[:, begin:end]).view(kind)


def _nibbles(packed: Blocks) -> Floats:
    """Return (n, 2 k) of (n, k) bytes, the low nibble of each first, as floats."""
    return np.stack([packed & 15, packed >> 4], axis=-1).reshape(len(packed), -1).astype(np.float32)


def _signs(bits: Blocks) -> Floats:
    """Return (n, 256) signs of (n, 32) bytes: -1 where a bit is set."""
    negative = np.unpackbits(bits, axis=1, bitorder="little")
    return np.where(negative == 1, np.float32(-1), np.float32(1))


def _even_signs(seven: Words) -> Blocks:
    """Return bytes of eight signs of numbers of seven bits: an even number is negative."""
    parity = sum((seven >> bit) & 1 for bit in range(7)) & 1
    return (seven | (parity << 7)).astype(np.uint8)


def _packed_signs(words: Words) -> tuple[Floats, Floats]:
    """Return (signs (n, 256), scales (n, 8)) of (n, 8) words: four times seven signs, a scale."""
    seven = (words[..., None] >> np.array([0, 7, 14, 21], np.uint32)) & 127
    scales = (words >> 28).astype(np.float32)
    return _signs(_even_signs(seven).reshape(len(words), -1)), scales


def _scaled(levels: Floats, scales: Floats) -> Floats:
    """Return levels (n, 256) times scales (n, k) of runs of 256 / k."""
    runs = levels.reshape(*scales.shape, -1)
    return (scales[..., None] * runs).reshape(levels.shape)


def _iq2(blocks: Blocks, rows: Words, signs: Floats, scales: Floats, name: str) -> Floats:
    levels = _IQ2_LEVELS[_grid(name, 8)[rows]].reshape(len(blocks), 256)
    return _scaled(levels * signs, half_at(blocks, 0) * (2 * scales + 1) * np.float32(1 / 8))


def decode_iq2_xxs(blocks: Blocks) -> Floats:
    """Decode d f16, then per 32: four rows of the code book; four times seven signs, a scale."""
    words = _words(blocks, 2, 66, "<u4").reshape(len(blocks), 8, 2)
    rows = np.ascontiguousarray(words[..., 0]).view(np.uint8)
    signs, scales = _packed_signs(words[..., 1])
    return _iq2(blocks, rows.astype(np.uint16), signs, scales, "IQ2_XXS")


def decode_iq2_xs(blocks: Blocks) -> Floats:
    """Decode d f16, 32 words of a row (9 bits) and seven signs, 8 bytes of scale nibbles."""
    words = _words(blocks, 2, 66, "<u2")
    signs = _signs(_even_signs(words >> 9))
    return _iq2(blocks, words & 511, signs, _nibbles(blocks[:, 66:]), "IQ2_XS")


def _upper_bits(packed: Blocks, bits: int) -> Words:
    """Return (n, k) fields of `bits` bits, the lowest of every byte first, moved to bit 8."""
    shifts = np.arange(0, 8, bits, dtype=np.uint16)
    fields = (packed[..., None].astype(np.uint16) >> shifts) & ((1 << bits) - 1)
    return (fields << 8).reshape(len(packed), -1)


def decode_iq2_s(blocks: Blocks) -> Floats:
    """Decode d f16, 32 rows, 32 bytes of signs, 8 of upper bits of rows, 8 of scale nibbles."""
    rows = blocks[:, 2:34] | _upper_bits(blocks[:, 66:74], 2)
    return _iq2(blocks, rows, _signs(blocks[:, 34:66]), _nibbles(blocks[:, 74:]), "IQ2_S")


def decode_iq3_xxs(blocks: Blocks) -> Floats:
    """Decode d f16, 64 rows of four levels, 8 words of four times seven signs and a scale."""
    signs, scales = _packed_signs(_words(blocks, 66, 98, "<u4"))
    levels = _IQ3_XXS_LEVELS[_grid("IQ3_XXS", 4)[blocks[:, 2:66]]].reshape(len(blocks), 256)
    return _scaled(levels * signs, half_at(blocks, 0) * (2 * scales + 1) * np.float32(1 / 4))


def decode_iq3_s(blocks: Blocks) -> Floats:
    """Decode d f16, 64 rows, 8 bytes of their upper bits, 32 of signs, 4 of scale nibbles."""
    rows = blocks[:, 2:66] | _upper_bits(blocks[:, 66:74], 1)
    levels = _IQ3_S_LEVELS[_grid("IQ3_S", 4)[rows]].reshape(len(blocks), 256)
    scales = half_at(blocks, 0) * (1 + 2 * _nibbles(blocks[:, 106:]))
    return _scaled(levels * _signs(blocks[:, 74:106]), scales)


def _iq1(rows: Words, shift: Floats, scales: Floats) -> Floats:
    """Return values of rows (n, 32), each with a shift; scales (n, k) of runs of columns."""
    levels = _IQ1_LEVELS[_grid("IQ1_S", 8)[rows]] + shift.reshape(*rows.shape, 1)
    return _scaled(levels.reshape(len(rows), 256), scales)


def decode_iq1_s(blocks: Blocks) -> Floats:
    """Decode d f16, 32 rows, 8 words: upper bits of four rows, a scale, the sign of the shift."""
    words = _words(blocks, 34, 50, "<u2")
    upper = (words[..., None] >> np.array([0, 3, 6, 9], np.uint16)) & 7
    rows = blocks[:, 2:34] | (upper << 8).reshape(len(blocks), -1)
    shift = np.where(words >> 15 == 1, -_IQ1_SHIFT, _IQ1_SHIFT)
    scales = half_at(blocks, 0) * (2 * ((words >> 12) & 7) + 1).astype(np.float32)
    return _iq1(rows, np.repeat(shift, 4, axis=1), scales)


def decode_iq1_m(blocks: Blocks) -> Floats:
    """Decode 32 rows, 16 bytes of their upper bits and shifts, 4 words of scales.

    A word holds four scales of three bits and, above them, four bits of the block's float16.
    """
    words = _words(blocks, 48, 56, "<u2")
    half = np.bitwise_or.reduce((words >> 12) << np.array([0, 4, 8, 12], np.uint16), axis=1)
    whole = half.astype("<u2").view("<f2").astype(np.float32)[:, None]
    upper = np.stack([blocks[:, 32:48] & 15, blocks[:, 32:48] >> 4], axis=-1).reshape(-1, 32)
    rows = blocks[:, :32] | ((upper & 7).astype(np.uint16) << 8)
    shift = np.where(upper & 8, -_IQ1_SHIFT, _IQ1_SHIFT)
    scales = (words[..., None] >> np.array([0, 3, 6, 9], np.uint16)) & 7
    odd = (2 * scales + 1).reshape(len(blocks), 16).astype(np.float32)
    return _iq1(rows, shift, whole * odd)
