"""What the server needs of an engine; `tonnage.engine.engine.Engine` has it, stand-ins too."""

from collections.abc import Sequence
from typing import Protocol, Self

from tonnage.core.pooling import Pooling
from tonnage.core.sampling import SamplingOptions
from tonnage.engine.embedding import Embedding
from tonnage.engine.generation import Generation
from tonnage.engine.job import Piece


class Answer(Protocol):
    """Text as it is generated; `generation` tells the rest, its finish_reason once it has ended."""

    @property
    def generation(self) -> Generation:
        """The answer so far."""

    def __aiter__(self) -> Self:
        """Return itself."""

    async def __anext__(self) -> Piece:
        """Return more text, which may be of several tokens."""

    async def aclose(self) -> None:
        """Stop; the engine computes nothing more for it."""


class Embeddings(Protocol):
    """The vectors of several texts, in their order."""

    def __aiter__(self) -> Self:
        """Return itself."""

    async def __anext__(self) -> Embedding:
        """Return the next one."""

    async def aclose(self) -> None:
        """Stop; the engine computes nothing more for them."""


class AsyncEngine(Protocol):
    """An engine for an event loop."""

    def stream(
        self,
        prompt: Sequence[int],
        options: SamplingOptions,
        *,
        priority: int = 0,
        deadline_s: float | None = None,
        tenant: str = "",
        cache_salt: str = "",
    ) -> Answer:
        """Return an answer; OverloadError, from here or from iterating, refuses it.

        deadline_s: from now on; later the answer ends as it is, or with DeadlineError. tenant:
        whose turn it counts as. cache_salt: prefixes are shared between equal ones only.
        """

    def embed_stream(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        pooling: Pooling | None = None,
        dimensions: int | None = None,
        priority: int = 0,
        deadline_s: float | None = None,
        tenant: str = "",
    ) -> Embeddings:
        """Return vectors of length 1; as `stream` for the rest. pooling: None for the model's."""
