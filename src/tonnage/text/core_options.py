"""What the native core takes of a tokenizer; see native/text/tokenizer_core.h."""

import re
from enum import IntEnum
from typing import NamedTuple


class Model(IntEnum):
    """How a piece becomes tokens."""

    BPE = 0
    SCORES = 1
    Unigram = 2
    WordPiece = 3
    WordLevel = 4


class Kind(IntEnum):
    """What a step does to a piece."""

    SPLIT = 0
    SPACES = 1
    PREFIX = 2
    LETTERS = 3


class Step(NamedTuple):
    """What is done to each piece of the step before."""

    kind: Kind
    text: str = ""
    behavior: int = 0
    inverted: bool = False
    only_first: bool = False
    if_missing: bool = False


BEHAVIORS = ("Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous")


def split_step(pattern: str, behavior: str = "Isolated", *, inverted: bool = False) -> Step:
    """Return a step that cuts at a pattern; raises ValueError for an unknown behaviour."""
    return Step(Kind.SPLIT, pattern, BEHAVIORS.index(behavior), inverted)


def literal(text: str) -> str:
    """Return the pattern of a text."""
    return re.escape(text)
