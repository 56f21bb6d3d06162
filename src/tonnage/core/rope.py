"""Rotary position embedding: how fast each pair of a head's elements turns."""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class RopeSpec:
    """Rotary position embedding (Su et al. 2021) of the first `dim` elements of each head.

    style: `half` pairs element i with i + dim/2, `interleaved` pairs 2i with 2i+1.
    factor: linear scaling, positions are divided by it. llama3: (factor, low_freq_factor,
    high_freq_factor, original_context) of Llama 3.1, or None.
    """

    dim: int
    base: float
    style: Literal["half", "interleaved"] = "half"
    factor: float = 1.0
    llama3: tuple[float, float, float, int] | None = None

    def inverse_frequencies(self) -> tuple[float, ...]:
        """Return dim/2 angles per position, scaling applied."""
        plain = [self.base ** (-2.0 * i / self.dim) for i in range(self.dim // 2)]
        if self.llama3 is not None:
            plain = [self._llama3(freq) for freq in plain]
        return tuple(freq / self.factor for freq in plain)

    def _llama3(self, freq: float) -> float:
        assert self.llama3 is not None
        factor, low, high, original = self.llama3
        turns = original * freq / (2 * math.pi)
        if turns < low:
            return freq / factor
        if turns > high:
            return freq
        smooth = (turns - low) / (high - low)
        return (1 - smooth) * freq / factor + smooth * freq
