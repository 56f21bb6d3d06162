"""How a model is to be opened, and what the process was like before."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tonnage.core.ledger import ProcessLedger
from tonnage.core.model_spec import ModelSpec
from tonnage.core.quality import quality_bound
from tonnage.machine.memory_use import anonymous_bytes, rss_bytes
from tonnage.planner.fit import Wishes
from tonnage.serving.build import ServingOptions


@dataclass(frozen=True, slots=True)
class OpenOptions:
    """What may be stated of a model that is opened; `Engine.open` says what each field means."""

    threads: int | None = None
    context: int | None = None
    precision: str | None = None
    formats: Mapping[str, str] | None = None
    kv_format: str | None = None
    quality: str | float | None = None
    concurrency: int = 1
    max_logit_rows: int = 1
    step_rows: int | None = None
    serving: ServingOptions = field(default_factory=ServingOptions)

    def wishes(self, spec: ModelSpec) -> Wishes:
        """Return what the planner is asked for. Raises RequestError for an unknown quality."""
        serving = self.serving
        return Wishes(
            self.context, self.threads, self.precision, self.concurrency,
            max(self.max_logit_rows, self.concurrency), self.step_rows,
            tuple(sorted((self.formats or {}).items())), self.kv_format,
            quality_bound(self.quality),
            serving.server_bytes + serving.server_token_bytes * spec.vocab_size,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Start:
    """The process before a model was opened, and what it was allowed then.

    resident_bytes, anonymous_bytes: without those of engines that are open already, which may come
    to beside_bytes; process: where they are counted.
    """

    process: ProcessLedger
    resident_bytes: int
    anonymous_bytes: int
    beside_bytes: int
    budget_bytes: int = 0

    @classmethod
    def of(cls, process: ProcessLedger) -> "Start":
        """Return how the process stands now."""
        others = process.beside()
        held, planned = (others.now_bytes, others.planned_bytes) if others else (0, 0)
        return cls(process, max(0, rss_bytes() - held), max(0, anonymous_bytes() - held), planned)
