"""Scales for random blocks: finite, and sized so that decoded weights stay below about 1."""

import numpy as np

from tonnage.core.block_format import BlockFormat
from tonnage.formats.block_decode import Blocks, Floats

# Per format: (byte offset of a float16 field, largest factor that it multiplies, may be negative).
_HALVES: dict[str, tuple[tuple[int, int, bool], ...]] = {
    "Q4_0": ((0, 8, True),),
    "Q4_1": ((0, 15, False), (2, 1, True)),
    "Q5_0": ((0, 16, True),),
    "Q5_1": ((0, 31, False), (2, 1, True)),
    "Q8_0": ((0, 127, True),),
    "IQ4_NL": ((0, 127, True),),
    "Q2_K": ((80, 15 * 3, False), (82, 15, False)),
    "Q3_K": ((108, 32 * 4, True),),
    "Q4_K": ((0, 63 * 15, False), (2, 63, False)),
    "Q5_K": ((0, 63 * 31, False), (2, 63, False)),
    "Q6_K": ((208, 128 * 32, True),),
    "IQ4_XS": ((0, 32 * 127, True),),
    "IQ1_S": ((0, 15, True),),
    "IQ2_XXS": ((0, 4 * 43, True),),
    "IQ2_XS": ((0, 4 * 43, True),),
    "IQ2_S": ((0, 4 * 43, True),),
    "IQ3_XXS": ((0, 8 * 62, True),),
    "IQ3_S": ((0, 31 * 15, True),),
    "TQ1_0": ((52, 1, True),),
    "TQ2_0": ((64, 2, True),),
    "Q1_0": ((0, 1, True),),
    "Q2_0": ((0, 2, True),),
}


def random_floats(count: int, rng: np.random.Generator) -> Floats:
    """Return `count` normal values of standard deviation 0.3."""
    return (0.3 * rng.standard_normal(count)).astype(np.float32)


def fill_scales(fmt: BlockFormat, blocks: Blocks, rng: np.random.Generator) -> None:
    """Overwrite the scale fields of `blocks` (num_blocks, block_bytes) with sane values."""
    if fmt.name == "MXFP4":
        blocks[:, 0] = rng.integers(118, 125, len(blocks))
        return
    if fmt.name == "NVFP4":
        blocks[:, :4] = rng.integers(0, 32, (len(blocks), 4))
        return
    if fmt.name == "IQ1_M":
        _fill_iq1_m(blocks, rng)
        return
    for offset, factor, signed in _HALVES[fmt.name]:
        magnitude = rng.uniform(0.25, 1.0, len(blocks)) / factor
        sign = rng.choice([-1.0, 1.0], len(blocks)) if signed else 1.0
        field = (sign * magnitude).astype("<f2").view(np.uint8)
        blocks[:, offset : offset + 2] = field.reshape(-1, 2)


def _fill_iq1_m(blocks: Blocks, rng: np.random.Generator) -> None:
    """Spread a float16 over the upper nibbles of four words, as IQ1_M keeps it."""
    magnitude = rng.choice([-1.0, 1.0], len(blocks)) * rng.uniform(0.25, 1.0, len(blocks)) / 15
    bits = magnitude.astype("<f2").view("<u2")[:, None]
    words = np.ascontiguousarray(blocks[:, 48:]).view("<u2") & np.uint16(0x0FFF)
    words |= ((bits >> np.array([0, 4, 8, 12], np.uint16)) & 15) << np.uint16(12)
    blocks[:, 48:] = words.view(np.uint8)
