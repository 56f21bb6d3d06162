"""How the hidden states of a text become one vector."""

from typing import Literal

from tonnage.core.record import record

# mean: of all positions. last: of the last one, which alone has seen the whole text.
Pooling = Literal["mean", "last"]
POOLINGS: tuple[Pooling, ...] = ("mean", "last")


@record
class TrainedPooling:
    """What a model's files say of its vectors.

    kind: None where they say nothing. unmet: what they ask for that is not implemented, empty for
    nothing.
    """

    kind: Pooling | None = None
    unmet: str = ""
