"""How a completion is sampled and where it ends."""

import os
from collections.abc import Callable, Mapping
from dataclasses import field
from functools import partial
from typing import Annotated, Protocol, TypedDict

from tonnage.core.errors import RequestError
from tonnage.core.options import Option, check_range, check_ranges, check_types, described
from tonnage.core.record import record

# The native sampler counts tokens in int32.
MOST_INT32 = (1 << 31) - 1
ALL_TOKENS = -1  # of top_k, as other engines write it
FRESH_SEED = -1
MOST_BIAS = 1000  # of a logit
_SEEDS = 1 << 64


class Constraint(Protocol):
    """Decides, sample by sample, which tokens a completion may take."""

    def mask(self) -> bytes:
        """Return what may come next: token i is bit i % 8 of byte i / 8, at least one is set."""

    def accept(self, token_id: int) -> None:
        """Take the token that was sampled."""


@record
class SamplingOptions:
    """Parameters of one completion, as the OpenAI API and others name them.

    max_tokens: None for as many as the context holds. temperature 0 is greedy. top_k 0 and -1 keep
    all. seed None and -1 take a fresh one, others count modulo 2^64. logprobs: None for none, n for
    the sampled token and the n best.
    prompt_logprobs: the same for the tokens of the prompt from the second on; it is computed anew,
    as many of its tokens in a step as there are logit rows.
    constraint: makes what decides for one completion, None leaves it free. shown: control tokens
    that add their text, as others do.
    """

    max_tokens: Annotated[
        int | None,
        Option(
            help="stop after so many",
            unit="N",
            usual="when the context is full",
            low=0,
            high=1 << 31,
            also=("-n", "--n-predict", "--predict", "--num-predict", "--max-new-tokens"),
            counts=True,
        ),
    ] = None
    temperature: Annotated[
        float,
        Option(help="0 takes the likeliest", unit="T", low=0, high=100, also=("--temp",)),
    ] = 0.8
    top_k: Annotated[
        int,
        Option(help="only the K likeliest, 0 for all", unit="K", low=ALL_TOKENS, high=MOST_INT32),
    ] = 40
    top_p: Annotated[
        float, Option(help="only the likeliest that make up P", unit="P", low=0, high=1)
    ] = 0.95
    min_p: Annotated[
        float, Option(help="only those with P times the likeliest's", unit="P", low=0, high=1)
    ] = 0.05
    repetition_penalty: Annotated[
        float,
        Option(
            help="shrink what was there before",
            unit="X",
            low=0.01,
            high=100,
            also=("--repeat-penalty",),
        ),
    ] = 1.0
    presence_penalty: Annotated[
        float, Option(help="off what was generated before", unit="X", low=-100, high=100)
    ] = 0.0
    frequency_penalty: Annotated[
        float, Option(help="the same, for each time", unit="X", low=-100, high=100)
    ] = 0.0
    seed: Annotated[
        int | None,
        Option(
            help="the same seed samples the same tokens, -1 other ones each time",
            unit="N",
            also=("-s",),
            low=-_SEEDS // 2,
            high=_SEEDS - 1,
        ),
    ] = None
    stop: Annotated[
        tuple[str, ...],
        Option(
            help="end before this text; may be repeated",
            unit="TEXT",
            also=("-r", "--reverse-prompt"),
        ),
    ] = ()
    logit_bias: Annotated[
        Mapping[int, float], Option(help="what is added to the logit of a token id", flag=None)
    ] = field(default_factory=dict)
    logprobs: Annotated[
        int | None,
        Option(help="with JSON: log probabilities, and the N best", unit="N", low=0, high=100),
    ] = None
    prompt_logprobs: Annotated[
        int | None,
        Option(help="log probabilities of the prompt's tokens, and the N best", flag=None),
    ] = None
    ignore_eos: Annotated[bool, Option(help="go on behind the end of the text", flag=None)] = False
    constraint: Annotated[
        Callable[[], Constraint] | None,
        Option(help="makes what decides which tokens may come next", flag=None),
    ] = None
    shown: Annotated[
        frozenset[int], Option(help="control tokens whose text is shown", flag=None)
    ] = frozenset()

    def __post_init__(self) -> None:
        """Check every value. Raises RequestError naming the first of a wrong type or range."""
        if isinstance(self.stop, str):
            object.__setattr__(self, "stop", (self.stop,))
        check_types(SamplingOptions, partial(getattr, self))
        check_ranges(SamplingOptions, partial(getattr, self))
        for token_id, bias in self.logit_bias.items():
            check_range("a token id of logit_bias", token_id, 0, MOST_INT32)
            check_range(f"the logit bias of token {token_id}", bias, -MOST_BIAS, MOST_BIAS)
        if any(not text for text in self.stop):
            raise RequestError("A stop string is empty; it would end every completion at once.")

    def resolved_seed(self) -> int:
        """Return the seed from 0 to 2^64 - 1, a fresh one from the system if none was given."""
        if self.seed in (None, FRESH_SEED):
            return int.from_bytes(os.urandom(8), "little")
        return self.seed % _SEEDS


def range_of(name: str) -> tuple[float, float]:
    """Return the least and the greatest value of a field of SamplingOptions that has a range."""
    option = next(one.option for one in described(SamplingOptions) if one.name == name)
    if option.low is None or option.high is None:
        raise ValueError(f"{name} has no range")
    return option.low, option.high


class SamplingOverrides(TypedDict, total=False):
    """The fields of SamplingOptions as keywords, so that editors and type checkers know them.

    Those take keywords from a written TypedDict alone, so names and types stand here once more; a
    test compares them.
    """

    max_tokens: int | None
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    seed: int | None
    stop: tuple[str, ...]
    logit_bias: Mapping[int, float]
    logprobs: int | None
    prompt_logprobs: int | None
    ignore_eos: bool
    constraint: Callable[[], Constraint] | None
    shown: frozenset[int]
