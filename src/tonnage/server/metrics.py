"""Counters of the server, and their text for Prometheus (its exposition format 0.0.4).

They are plain numbers that change once per request, never per token.
"""

from collections import Counter
from collections.abc import Iterator, Mapping

from tonnage.core.ledger import Ledger

KIND = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Histogram:
    """How often a duration fell below each of a few bounds."""

    def __init__(self) -> None:
        """Begin empty."""
        self.counts = [0] * (len(_BUCKETS_S) + 1)
        self.sum_s = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        index = next((i for i, bound in enumerate(_BUCKETS_S) if seconds <= bound), -1)
        self.counts[index] += 1
        self.sum_s += seconds

    def lines(self, name: str) -> Iterator[str]:
        """Yield the samples under `name`."""
        total = 0
        for bound, count in zip((*_BUCKETS_S, "+Inf"), self.counts, strict=True):
            total += count
            yield f'{name}_bucket{{le="{bound}"}} {total}'
        yield f"{name}_sum {self.sum_s:.6f}"
        yield f"{name}_count {total}"


class Metrics:
    """What the server has done since it began."""

    def __init__(self) -> None:
        """Begin at nothing."""
        self.requests: Counter[tuple[str, int]] = Counter()
        self.cancelled = 0
        self.in_progress = 0
        self.prompt_tokens = 0
        self.cached_tokens = 0
        self.generated_tokens = 0
        self.dropped_tokens = 0
        self.embedded_inputs = 0
        self.embedded_tokens = 0
        self.first_token = Histogram()
        self.per_token = Histogram()

    def answered(self, path: str, status: int) -> None:
        """Count a request by its route and status."""
        self.requests[path, status] += 1

    def text(self, gauges: Mapping[str, float], ledger: Ledger) -> str:
        """Return all samples; gauges: name -> value of what is true now."""
        return "\n".join([*self._lines(gauges), *_memory_lines(ledger), ""])

    def _lines(self, gauges: Mapping[str, float]) -> Iterator[str]:
        yield "# TYPE tonnage_requests_total counter"
        for (path, status), count in sorted(self.requests.items()):
            yield f'tonnage_requests_total{{path="{path}",status="{status}"}} {count}'
        counters = {
            "cancelled_requests": self.cancelled,
            "prompt_tokens": self.prompt_tokens,
            "cached_prompt_tokens": self.cached_tokens,
            "generated_tokens": self.generated_tokens,
            "dropped_prompt_tokens": self.dropped_tokens,
            "embedded_inputs": self.embedded_inputs,
            "embedded_tokens": self.embedded_tokens,
        }
        for name, value in counters.items():
            yield f"# TYPE tonnage_{name}_total counter"
            yield f"tonnage_{name}_total {value}"
        for name, number in {**gauges, "requests_in_progress": self.in_progress}.items():
            yield f"# TYPE tonnage_{name} gauge"
            yield f"tonnage_{name} {number:g}"
        for name, histogram in (
            ("time_to_first_token", self.first_token),
            ("time_per_output_token", self.per_token),
        ):
            yield f"# TYPE tonnage_{name}_seconds histogram"
            yield from histogram.lines(f"tonnage_{name}_seconds")


def _memory_lines(ledger: Ledger) -> Iterator[str]:
    for which in ("planned", "now", "peak"):
        yield f"# TYPE tonnage_memory_{which}_bytes gauge"
        for item in ledger.items:
            value = getattr(item, f"{which}_bytes")
            labels = f'item="{item.name}",kind="{item.kind}"'
            yield f"tonnage_memory_{which}_bytes{{{labels}}} {value}"
    whole = {
        "budget": ledger.budget_bytes,
        "resident": ledger.rss_bytes,
        "peak_resident": ledger.peak_rss_bytes,
        "unaccounted": ledger.unaccounted_bytes,
    }
    for name, value in whole.items():
        yield f"# TYPE tonnage_process_{name}_bytes gauge"
        yield f"tonnage_process_{name}_bytes {value}"
