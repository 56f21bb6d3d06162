"""What the server needs of an engine; `tonnage.engine.engine.Engine` has it, stand-ins too."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Protocol, Self, Unpack

from tonnage.core.drafts import DraftCounts
from tonnage.core.ledger import Entry, Ledger
from tonnage.core.page_counts import PageCounts
from tonnage.core.plan import Plan
from tonnage.core.pooling import Pooling
from tonnage.core.sampling import SamplingOptions
from tonnage.engine.activity import Activity
from tonnage.engine.embedding import Embedding, Inputs
from tonnage.engine.expectation import Expectation
from tonnage.engine.generation import Generation
from tonnage.engine.job import Delta
from tonnage.engine.prompts import PromptEnd
from tonnage.text.tokenizer import Tokenizer


class Completion(Protocol):
    """Text as it is generated; `generation` has the rest, its finish_reason once it has ended."""

    @property
    def generation(self) -> Generation:
        """The completion so far."""

    def __aiter__(self) -> Self:
        """Return itself."""

    async def __anext__(self) -> Delta:
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
    ) -> Completion:
        """Return a completion; OverloadError, from here or from iterating, refuses it.

        deadline_s: from now on; later the completion ends as it is, or with DeadlineError. tenant:
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


class ServedEngine(AsyncEngine, Protocol):
    """An engine that a server loads, asks and closes; documented at Engine where not here."""

    tokenizer: Tokenizer
    plan: Plan
    expectation: Expectation
    page_counts: PageCounts | None
    draft_counts: DraftCounts | None

    @property
    def planned_bytes(self) -> int:
        """What it may come to once it is loaded, without what the process shares."""

    def encode_prompt(self, prompt: str | Sequence[int], *, raw: bool) -> Sequence[int]:
        """Return the token ids of a prompt. Raises RequestError."""

    def encode_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        variables: Mapping[str, Any] | None = None,
        **end: Unpack[PromptEnd],
    ) -> list[int]:
        """Return the token ids of a conversation. Raises ChatTemplateError, RequestError."""

    def encode_inputs(self, inputs: Inputs) -> list[Sequence[int]]:
        """Return the token ids of texts. Raises ContextLengthError, RequestError."""

    def look(self) -> "Future[Activity]":
        """Return what it is doing, as of the end of the step that runs now."""

    def outside_bytes(self) -> int:
        """Return what the process holds beside the arena."""

    def note_structured_output(self, num_bytes: int) -> None:
        """Count the tables of structured output as an item of the ledger."""

    def own_entries(self) -> tuple[Entry, ...]:
        """Return the items of the ledger that are this engine's alone."""

    def ledger(self) -> Ledger:
        """Return every item planned, now and at its peak."""

    def close(self) -> None:
        """Give the memory back."""
