"""How an answer is drawn and where it ends."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from tonnage.core.errors import RequestError

# The native sampler counts tokens in int32.
MOST_INT32 = (1 << 31) - 1


class Constraint(Protocol):
    """Decides, draw by draw, which tokens an answer may take."""

    def mask(self) -> bytes:
        """Return what may come next: token i is bit i % 8 of byte i / 8, at least one is set."""

    def accept(self, token_id: int) -> None:
        """Take the token that was drawn."""


@dataclass(frozen=True, slots=True)
class SamplingOptions:
    """Parameters of one answer, as the OpenAI API and its neighbours name them.

    max_tokens: None for as many as the context holds. temperature 0 is greedy. top_k 0 keeps all.
    seed None draws a fresh one. logprobs: None for none, n for the chosen token and the n best.
    constraint: makes what decides for one answer, None leaves it free.
    """

    max_tokens: int | None = None
    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    logprobs: int | None = None
    ignore_eos: bool = False
    constraint: Callable[[], Constraint] | None = None

    def __post_init__(self) -> None:
        """Check every value. Raises RequestError naming the first that is outside its range."""
        _check("max_tokens", self.max_tokens, 0, 1 << 31)
        _check("temperature", self.temperature, 0, 100)
        _check("top_k", self.top_k, 0, MOST_INT32)
        _check("top_p", self.top_p, 0, 1)
        _check("min_p", self.min_p, 0, 1)
        _check("repetition_penalty", self.repetition_penalty, 0.01, 100)
        _check("presence_penalty", self.presence_penalty, -100, 100)
        _check("frequency_penalty", self.frequency_penalty, -100, 100)
        _check("seed", self.seed, 0, (1 << 64) - 1)
        _check("logprobs", self.logprobs, 0, 100)
        for token_id, bias in self.logit_bias.items():
            _check("a token id of logit_bias", token_id, 0, MOST_INT32)
            _check(f"the logit bias of token {token_id}", bias, -1000, 1000)
        if any(not text for text in self.stop):
            raise RequestError("A stop string is empty; it would stop every answer at once.")

    def resolved_seed(self) -> int:
        """Return the seed, a fresh one from the system if none was given."""
        return self.seed if self.seed is not None else int.from_bytes(os.urandom(8), "little")


def _check(name: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not low <= value <= high:
        raise RequestError(f"{name} is {value}; it must lie between {low} and {high}.")
