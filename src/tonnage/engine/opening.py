"""How a model is to be opened."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tonnage.core.model_spec import ModelSpec
from tonnage.core.quality import quality_bound
from tonnage.engine.build import ServingOptions
from tonnage.planner.search.constraints import Constraints


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
    max_batch_tokens: int | None = None
    serving: ServingOptions = field(default_factory=ServingOptions)

    def constraints(self, spec: ModelSpec) -> Constraints:
        """Return what the planner is asked for. Raises RequestError for an unknown quality."""
        serving = self.serving
        return Constraints(
            self.context, self.threads, self.precision, self.concurrency,
            max(self.max_logit_rows, self.concurrency), self.max_batch_tokens,
            tuple(sorted((self.formats or {}).items())), self.kv_format,
            quality_bound(self.quality),
            serving.server_bytes, serving.with_forms, serving.share_pages, serving.disk is not None,
        )  # fmt: skip
