"""Rotary position embedding: how fast each pair of a head's elements turns."""

import math
from dataclasses import replace
from typing import Literal

from tonnage.core.record import record


@record
class Yarn:
    """YaRN (Peng et al. 2023): fast pairs keep their frequency, slow ones get it over `factor`.

    beta_fast, beta_slow: turns within the original context at which the two begin; pairs between
    are blended. whole_pairs: the borders are rounded outwards to whole pairs.
    """

    factor: float
    original_context: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    whole_pairs: bool = True


@record
class LongRope:
    """LongRoPE (Ding et al. 2024): a divisor per pair, of two sets.

    short: for contexts up to the original one, long: for longer ones. Both are empty where tensors
    hold them, `rope_factors_short` and `rope_factors_long`.
    """

    original_context: int
    short: tuple[float, ...] = ()
    long: tuple[float, ...] = ()


@record
class DynamicNtk:
    """A base that grows with the context, from the original one on (bloc97, emozilla 2023)."""

    factor: float
    original_context: int


@record
class RopeSpec:
    """Rotary position embedding (Su et al. 2021) of the first `dim` elements of each head.

    style: `half` pairs element i with i + dim/2, `interleaved` pairs 2i with 2i+1.
    factor: linear scaling, positions are divided by it. llama3: (factor, low_freq_factor,
    high_freq_factor, original_context) of Llama 3.1, or None. scaling: any other. attention_factor:
    of rotated elements. rotated_pairs: only so many first pairs turn at all, None for every one.
    divisors: of the frequencies, one per pair, or empty. rule: what a plan's context decided, as
    words.
    """

    dim: int
    base: float
    style: Literal["half", "interleaved"] = "half"
    factor: float = 1.0
    llama3: tuple[float, float, float, int] | None = None
    scaling: Yarn | LongRope | DynamicNtk | None = None
    attention_factor: float = 1.0
    rotated_pairs: int | None = None
    divisors: tuple[float, ...] = ()
    rule: str = ""

    def for_context(self, context_tokens: int) -> "RopeSpec":
        """Return the rope of a plan of so many positions per sequence.

        What depends on length in other programs depends on the plan's context here, so that a
        sequence's logits do not change while it grows.
        """
        match self.scaling:
            case LongRope(original, short, long):
                is_long = context_tokens > original
                which = "long" if is_long else "short"
                rule = f"the {which} factors, which change beyond a context of {original:,}"
                divisors = long if is_long else short
                return replace(self, scaling=None, divisors=divisors, rule=rule)
            case DynamicNtk(factor, original) if context_tokens > original:
                stretch = factor * context_tokens / original - (factor - 1)
                base = self.base * stretch ** (self.dim / (self.dim - 2))
                rule = f"base {base:,.0f}, which grows beyond a context of {original:,}"
                return replace(self, scaling=None, base=base, rule=rule)
            case DynamicNtk():
                return replace(self, scaling=None)
        return self

    def inverse_frequencies(self) -> tuple[float, ...]:
        """Return dim/2 angles per position, scaling applied; of a rope `for_context`."""
        plain = [self.base ** (-2.0 * i / self.dim) for i in range(self.dim // 2)]
        if self.rotated_pairs is not None:
            plain = [freq if i < self.rotated_pairs else 0.0 for i, freq in enumerate(plain)]
        if self.llama3 is not None:
            plain = [self._llama3(freq) for freq in plain]
        if isinstance(self.scaling, Yarn):
            plain = self._yarn(self.scaling, plain)
        if self.divisors:
            plain = [freq / by for freq, by in zip(plain, self.divisors, strict=True)]
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

    def _yarn(self, yarn: Yarn, plain: list[float]) -> list[float]:
        first, last = self._blended(yarn)
        found = []
        for i, freq in enumerate(plain):
            slow = min(1.0, max(0.0, (i - first) / (last - first)))
            found.append(slow * freq / yarn.factor + (1 - slow) * freq)
        return found

    def _blended(self, yarn: Yarn) -> tuple[float, float]:
        """Return the last pair that keeps its frequency, and the first one that is slowed whole."""

        def pair_of(turns: float) -> float:
            per_pair = 2 * math.log(self.base) / self.dim
            return math.log(yarn.original_context / (turns * 2 * math.pi)) / per_pair

        first, last = pair_of(yarn.beta_fast), pair_of(yarn.beta_slow)
        if yarn.whole_pairs:
            first, last = math.floor(first), math.ceil(last)
        first, last = max(first, 0), min(last, self.dim - 1)
        return first, last if last > first else first + 0.001


def yarn_attention_factor(factor: float, weight: float = 1.0) -> float:
    """Return YaRN's factor of rotated elements (Peng et al. 2023, 3.4), its logarithm weighted."""
    return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0


def longrope_attention_factor(factor: float, original_context: int) -> float:
    """Return LongRoPE's factor of rotated elements, of a context `factor` times as long."""
    return 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(original_context))
