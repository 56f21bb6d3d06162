"""What is asked for drafts, and what they have cost and given."""

from array import array
from dataclasses import dataclass

from tonnage.core.record import record


@record
class Growing:
    """A request that decodes: its tokens so far, and the most drafts that it can use."""

    request_id: int
    tokens: "array[int]"
    most: int


@dataclass(slots=True)
class DraftCounts:
    """What speculation has done since the model was loaded.

    steps: with drafts. drafted, accepted: tokens. won_ns: time that the accepted tokens would have
    taken in steps of their own, less what the rows of all drafts added, by the measured times of
    steps; below 0 where drafts made things slower.
    """

    steps: int = 0
    drafted: int = 0
    accepted: int = 0
    won_ns: int = 0
