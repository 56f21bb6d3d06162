"""A model that can be asked for: its names, its place in memory, and what it is at the moment."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from tonnage.core.record import record
from tonnage.server.models.load_policy import Size
from tonnage.server.models.service import Service
from tonnage.server.observe.metrics import Metrics

OnLoad = Callable[[int, int], None]


@record
class Place:
    """Whom a model has beside itself.

    together: all others of which that is true. Else it is loaded in place of in_place_of of them.
    """

    together: bool = True
    in_place_of: int = 0


@dataclass(eq=False)
class ServedModel:
    """A model that can be asked for. names: what it is called, the first in answers.

    open: loads it, in a thread, and reports the bytes of weights placed and of all. metrics outlive
    the model. service: None while it is not in memory. placed_bytes: while it is being loaded.
    stamp: what changes when its files are replaced; loaded_stamp: that of what is in memory.
    """

    names: tuple[str, ...]
    size: Size
    context_tokens: int
    open: Callable[[Metrics, OnLoad], Service]
    pinned: bool = False
    place: Place = field(default_factory=Place)
    metrics: Metrics = field(default_factory=Metrics)
    stamp: Callable[[], str] = lambda: ""
    loaded_stamp: str = ""
    service: Service | None = None
    placed_bytes: int = 0
    failed: bool = False
    num_observers: int = 0
    unobserved: asyncio.Event | None = None

    @property
    def name(self) -> str:
        """What it is called in answers."""
        return self.names[0]


@record
class Waits:
    """How many requests may wait for models to be loaded, and for how long each."""

    requests: int = 64
    seconds: float = 60.0
