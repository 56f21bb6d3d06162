"""Frequencies of rotary embeddings in float64, from the publications; nothing of tonnage.

Rotary embedding: Su et al. 2021. Linear scaling: Chen et al. 2023. Llama 3.1's scaling: Dubey et
al. 2024 and the `rope_scaling` of its config.json. YaRN: Peng et al. 2023, with the blend linear in
the pair's number, as in its authors' code. A base that grows: bloc97 and emozilla 2023.
"""

from typing import NamedTuple

import numpy as np


class Llama3(NamedTuple):
    """Llama 3.1's scaling: wavelengths up to original_context / high_freq_factor are kept.

    Those from original_context / low_freq_factor on are `factor` times as long; the frequencies of
    those between are blended linearly in original_context / wavelength.
    """

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_context: float


class Yarn(NamedTuple):
    """YaRN: pairs of more than beta_fast turns in the original context stay, of less than beta_slow
    are `factor` times as slow; those between are blended linearly by their numbers.

    whole_pairs: the borders are rounded away from each other.
    """

    factor: float
    original_context: float
    beta_fast: float
    beta_slow: float
    whole_pairs: bool


def inverse_frequencies(
    dim: int,
    base: float,
    *,
    linear: float = 1.0,
    llama3: Llama3 | None = None,
    yarn: Yarn | None = None,
) -> np.ndarray:
    """Return the angle per position of each of dim/2 pairs; linear: divides all positions."""
    frequencies = 1.0 / np.power(float(base), np.arange(0, dim, 2) / dim)
    if llama3 is not None:
        frequencies = _llama3(frequencies, llama3)
    if yarn is not None:
        frequencies = _yarn(frequencies, yarn)
    return frequencies / linear


def grown_base(dim: int, base: float, factor: float, original: int, context: int) -> float:
    """Return the base for a context: at the original one it is the base, and it grows with it."""
    growth = 1 + factor * max(0, context - original) / original
    return base * growth ** (dim / (dim - 2))


def _yarn(frequencies: np.ndarray, yarn: Yarn) -> np.ndarray:
    turns = yarn.original_context * frequencies / (2 * np.pi)
    # Turns fall geometrically, so that logarithms are linear in the pair's number.
    pairs = np.arange(len(frequencies))
    slope = np.log(turns[1] / turns[0])
    first = np.log(yarn.beta_fast / turns[0]) / slope
    last = np.log(yarn.beta_slow / turns[0]) / slope
    if yarn.whole_pairs:
        first, last = np.floor(first), np.ceil(last)
    first, last = max(first, 0), min(last, 2 * len(frequencies) - 1)
    if first == last:
        last += 1e-3
    slowed = np.interp(pairs, [first, last], [0.0, 1.0])
    return frequencies * (1 - slowed) + frequencies / yarn.factor * slowed


def _llama3(frequencies: np.ndarray, scaling: Llama3) -> np.ndarray:
    wavelengths = 2 * np.pi / frequencies
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    kept_share = (scaling.original_context / wavelengths - low) / (high - low)
    kept_share = np.clip(kept_share, 0.0, 1.0)
    return frequencies * (kept_share + (1 - kept_share) / scaling.factor)
