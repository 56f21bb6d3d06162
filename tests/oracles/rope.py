"""Frequencies of rotary embeddings in float64, from the publications; nothing of tonnage.

Rotary embedding: Su et al. 2021. Linear scaling: Chen et al. 2023. Llama 3.1's scaling: Dubey et
al. 2024 and the `rope_scaling` of its config.json.
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


def inverse_frequencies(
    dim: int, base: float, *, linear: float = 1.0, llama3: Llama3 | None = None
) -> np.ndarray:
    """Return the angle per position of each of dim/2 pairs; linear: divides all positions."""
    frequencies = 1.0 / np.power(float(base), np.arange(0, dim, 2) / dim)
    if llama3 is not None:
        frequencies = _llama3(frequencies, llama3)
    return frequencies / linear


def _llama3(frequencies: np.ndarray, scaling: Llama3) -> np.ndarray:
    wavelengths = 2 * np.pi / frequencies
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    kept_share = (scaling.original_context / wavelengths - low) / (high - low)
    kept_share = np.clip(kept_share, 0.0, 1.0)
    return frequencies * (kept_share + (1 - kept_share) / scaling.factor)
