"""How the hidden states of a text become one vector."""

from typing import Literal

# mean: of all positions. last: of the last one, which alone has seen the whole text.
Pooling = Literal["mean", "last"]
POOLINGS: tuple[Pooling, ...] = ("mean", "last")
