"""What one request did and when, for traces; telemetry.py exports it to OpenTelemetry."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tonnage.core.sampling import SamplingOptions
from tonnage.engine.generation import Generation


@dataclass(slots=True)
class Trace:
    """One request, filled while it is answered: numbers and names, no text of prompts or answers.

    headers: of the request, names in lower case. begin_ns, queued_ns: Unix time when it came and
    when its answers were queued. model: as the client wrote it. served_by: what the model is called
    here; empty for a request that was refused before. embedded_tokens: of texts that were to become
    vectors. is_exported: to a tracer; else answers are not kept until their last byte is sent.
    figures: what its answers came to, for the log; empty while they run.
    """

    method: str
    headers: Mapping[str, str]
    begin_ns: int = field(default_factory=time.time_ns)
    queued_ns: int = 0
    model: str = ""
    served_by: str = ""
    options: SamplingOptions | None = None
    generations: Sequence[Generation] = ()
    embedded_tokens: int = 0
    is_exported: bool = True
    figures: dict[str, float] = field(default_factory=dict)

    def embedding(self, served_by: str, num_tokens: int) -> None:
        """Note that texts of so many tokens are queued."""
        self.queued_ns = time.time_ns()
        self.served_by = served_by
        self.embedded_tokens = num_tokens

    def answered(self, generations: Sequence[Generation]) -> None:
        """Note what the answers came to, before they are gone: tokens, and seconds of the first."""
        self.figures = {
            "prompt_tokens": sum(len(one.prompt) for one in generations),
            "cached_tokens": sum(one.num_cached_tokens for one in generations),
            "generated_tokens": sum(len(one.tokens) for one in generations),
        }
        begun = [one for one in generations if one.tokens]  # the first was queued first
        if begun:
            self.figures["queue_s"] = begun[0].queue_ns * 1e-9
            self.figures["first_token_s"] = begun[0].time_to_first_token_ns * 1e-9

    def answering(
        self, served_by: str, options: SamplingOptions, generations: Sequence[Generation]
    ) -> None:
        """Note that answers are queued; `generations` fill from now on."""
        self.queued_ns = time.time_ns()
        self.served_by = served_by
        self.options = options
        self.generations = generations if self.is_exported else ()


class Tracer(Protocol):
    """What receives finished requests."""

    def report(self, trace: Trace, route: str, status: int) -> None:
        """Take a request that is over. route: as in ROUTES. status: 0: the client was gone."""

    def close(self) -> None:
        """Send what was not sent yet."""
