"""Counters of the server, and their text for Prometheus (its exposition format 0.0.4).

They are plain numbers that change once per request, never per token. What belongs to a model is
labelled with its name.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

from tonnage.core.drafts import DraftCounts
from tonnage.core.ledger import Ledger
from tonnage.core.page_counts import PageCounts
from tonnage.server.observe.metric_names import METRICS, OLD_NAMES

KIND = "text/plain; version=0.0.4; charset=utf-8"
# Upper bounds in seconds. Small models make a token in 1 to 4 ms, large ones in 100.
_TOKEN_S = (
    0.0005, 0.001, 0.0015, 0.002, 0.0025, 0.003, 0.004, 0.006, 0.01, 0.015, 0.025, 0.05, 0.1,
    0.25, 0.5, 1,
)  # fmt: skip
_FIRST_S = (
    0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120,
)  # fmt: skip
_LOAD_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_ESCAPED = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


class Samples:
    """Samples by metric: all of one name stand together behind its meaning and its type."""

    def __init__(self) -> None:
        """Begin with none."""
        self._lines: dict[str, list[str]] = {}

    def add(self, name: str, value: float, /, *, suffix: str = "", **labels: str) -> None:
        """Take a sample of `name`, one of METRICS or OLD_NAMES; suffix: of a histogram's series.

        Labels that are empty are left out.
        """
        pairs = [f'{key}="{one.translate(_ESCAPED)}"' for key, one in labels.items() if one]
        shown = f"{{{','.join(pairs)}}}" if pairs else ""
        number = f"{value}" if isinstance(value, int) else f"{value:.6g}"
        self._lines.setdefault(name, []).append(f"{name}{suffix}{shown} {number}")

    def text(self) -> str:
        """Return all of them."""
        lines: list[str] = []
        for name, samples in self._lines.items():
            lines += [f"# HELP {name} {_help(name)}", f"# TYPE {name} {_kind(name)}", *samples]
        return "\n".join([*lines, ""])


def _help(name: str) -> str:
    if name in OLD_NAMES:
        return f"Goes with the next version; use {OLD_NAMES[name][0]}."
    return METRICS[name].help


def _kind(name: str) -> str:
    return METRICS[OLD_NAMES[name][0] if name in OLD_NAMES else name].kind


class Histogram:
    """How often a duration fell below each of a few bounds."""

    def __init__(self, bounds_s: Sequence[float] = _FIRST_S) -> None:
        """Begin empty; bounds_s: ascending."""
        self._bounds_s = bounds_s
        self.counts = [0] * (len(bounds_s) + 1)
        self.sum_s = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        index = next((i for i, bound in enumerate(self._bounds_s) if seconds <= bound), -1)
        self.counts[index] += 1
        self.sum_s += seconds

    def emit(self, samples: Samples, name: str, model: str) -> None:
        """Add the samples under `name`."""
        total = 0
        for bound, count in zip((*self._bounds_s, "+Inf"), self.counts, strict=True):
            total += count
            samples.add(name, total, suffix="_bucket", model=model, le=f"{bound}")
        samples.add(name, self.sum_s, suffix="_sum", model=model)
        samples.add(name, total, suffix="_count", model=model)


class Requests:
    """What came of the requests, by route and status."""

    def __init__(self) -> None:
        """Begin at nothing."""
        self._counts: Counter[tuple[str, int]] = Counter()

    def answered(self, path: str, status: int) -> None:
        """Count a request."""
        self._counts[path, status] += 1

    def emit(self, samples: Samples) -> None:
        """Add the samples."""
        for (path, status), count in sorted(self._counts.items()):
            name = "tonnage_requests_total"
            samples.add(name, count, path=path, status=f"{status}")


class Metrics:
    """What has been done with one model since the server began, loaded or not."""

    def __init__(self) -> None:
        """Begin at nothing."""
        self.cancelled = 0
        self.in_progress = 0
        self.prompt_tokens = 0
        self.cached_tokens = 0
        self.generated_tokens = 0
        self.dropped_tokens = 0
        self.loads = 0
        self.unloads = 0
        self.embedded_inputs = 0
        self.embedded_tokens = 0
        self.first_token = Histogram()
        self.per_token = Histogram(_TOKEN_S)
        self.load = Histogram(_LOAD_S)

    def emit(self, samples: Samples, model: str) -> None:
        """Add the samples, labelled with the model's name."""
        counters = {
            "cancelled_requests": self.cancelled,
            "prompt_tokens": self.prompt_tokens,
            "cached_prompt_tokens": self.cached_tokens,
            "generated_tokens": self.generated_tokens,
            "dropped_prompt_tokens": self.dropped_tokens,
            "model_loads": self.loads,
            "model_unloads": self.unloads,
            "embedded_inputs": self.embedded_inputs,
            "embedded_tokens": self.embedded_tokens,
        }
        for name, value in counters.items():
            samples.add(f"tonnage_{name}_total", value, model=model)
        samples.add("tonnage_requests_in_progress", self.in_progress, model=model)
        for name, histogram in (
            ("time_to_first_token", self.first_token),
            ("time_per_output_token", self.per_token),
            ("model_load", self.load),
        ):
            histogram.emit(samples, f"tonnage_{name}_seconds", model)


def emit_page_store(samples: Samples, counts: PageCounts | None, model: str) -> None:
    """Add what the pages on disk were asked for; nothing for a model that keeps none there."""
    if counts is None:
        return
    for name, value in (
        ("hits", counts.hits),
        ("misses", counts.misses),
        ("damaged_pages", counts.damaged),
        ("written_pages", counts.written),
        ("unwritten_pages", counts.not_written),
        ("evicted_pages", counts.evicted),
    ):
        samples.add(f"tonnage_page_store_{name}_total", value, model=model)


def emit_drafts(samples: Samples, counts: DraftCounts | None, model: str) -> None:
    """Add what speculation has cost and given; nothing for a model without it."""
    if counts is None:
        return
    for name, value in (
        ("draft_steps_total", counts.steps),
        ("drafted_tokens_total", counts.drafted),
        ("accepted_draft_tokens_total", counts.accepted),
        ("drafts_won_seconds", counts.won_ns * 1e-9),
    ):
        samples.add(f"tonnage_{name}", value, model=model)


def emit_memory(samples: Samples, ledger: Ledger) -> None:
    """Add every item of the ledger, and the whole process."""
    for which in ("planned", "now", "peak"):
        for item in ledger.items:
            samples.add(
                f"tonnage_memory_{which}_bytes", getattr(item, f"{which}_bytes"),
                item=item.name, kind=item.kind, model=item.model,
            )  # fmt: skip
    for name, value in _whole(ledger):
        samples.add(f"tonnage_process_{name}_bytes", value)


def _whole(ledger: Ledger) -> Iterator[tuple[str, int]]:
    yield "budget", ledger.budget_bytes
    yield "resident", ledger.rss_bytes
    yield "peak_resident", ledger.peak_rss_bytes
    yield "unaccounted", ledger.unaccounted_bytes
