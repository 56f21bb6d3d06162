"""Measuring a loaded model beside the machine's ceilings.

bandwidth_share = weight_bytes_per_token * steps per second / read bandwidth. peak_share = 2 *
multiply-adds of the weight matrices / time / int8 peak: in a decode step every row runs through all
of them, in a prefill the output head counts once, for the last row.
"""

import time
from collections.abc import Callable, Sequence
from statistics import median

from tonnage.core.machine import Machine
from tonnage.core.record import record
from tonnage.engine.engine import Engine, Span
from tonnage.engine.options import EngineOptions
from tonnage.machine import probe

# A sequence of the decode section: its prompt, and the positions it has altogether. After the last
# one it goes back to the end of the prompt, so that a long measurement has no longer context.
SEQUENCE_TOKENS = 128
PROMPT_TOKENS = 64


@record
class Effort:
    """How long to measure: seconds per figure and per probe, and the fewest repetitions."""

    figure_s: float
    probe_s: float
    repetitions: int


FULL = Effort(figure_s=1.0, probe_s=0.3, repetitions=3)
QUICK = Effort(figure_s=0.15, probe_s=0.1, repetitions=1)


@record
class Ceiling:
    """What the machine can do: reads in GB/s, int8 in GOPS (a multiply-add counts as two)."""

    read_gb_s: float
    int8_gops: float


@record
class Figure:
    """A measured section: `size` sequences in a step, or tokens of a prompt, in `seconds` (median).

    macs: multiply-adds of the weight matrices in that time; read_bytes: weights that a step reads.
    ceiling: the best of right before and right after.
    """

    size: int
    seconds: float
    macs: int
    read_bytes: int
    ceiling: Ceiling

    @property
    def tokens_per_s(self) -> float:
        """All rows together."""
        return self.size / self.seconds

    @property
    def gops(self) -> float:
        """Operations of the weight matrices in 1e9 per second, a multiply-add counts as two."""
        return 2 * self.macs / self.seconds / 1e9

    @property
    def gb_s(self) -> float:
        """Weights read, in 1e9 bytes per second."""
        return self.read_bytes / self.seconds / 1e9

    @property
    def bandwidth_share(self) -> float:
        """The share of the read bandwidth."""
        return self.gb_s / self.ceiling.read_gb_s

    @property
    def peak_share(self) -> float:
        """The share of the int8 peak."""
        return self.gops / self.ceiling.int8_gops


def engine_options(rows: Sequence[int], prompts: Sequence[int]) -> EngineOptions:
    """Return what an engine needs so that these sections can be measured.

    rows: sequences to decode at once; prompts: lengths of prompts. All sequences' pages are one
    pool, so a long prompt takes those of several.
    """
    most_rows, longest = max(rows, default=1), max(prompts, default=1)
    pool_tokens = max(SEQUENCE_TOKENS * most_rows, longest)
    return EngineOptions(
        context=SEQUENCE_TOKENS,
        concurrency=-(-pool_tokens // SEQUENCE_TOKENS),
        max_logit_rows=most_rows,
    )


def measure_ceiling(machine: Machine, threads: int, seconds: float) -> Ceiling:
    """Return both ceilings with `threads` threads. Raises ProbeError."""
    return Ceiling(
        probe.read_bandwidth(machine, threads, seconds).best,
        probe.int8_peak(machine.isa, threads, seconds).best,
    )


class SpeedBenchmark:
    """Runs sections through an engine's runtime, each between two measurements of the ceilings.

    The engine was opened with `engine_options`.
    """

    def __init__(
        self, engine: Engine, machine: Machine, effort: Effort, on_section: Callable[[str], None]
    ) -> None:
        """Take an open engine; on_section receives the name of what is measured next."""
        self._runtime = engine.runtime
        self._plan = engine.plan
        self._machine = machine
        self._effort = effort
        self._on_section = on_section
        self._last_ceiling: Ceiling | None = None

    def decode(self, sizes: Sequence[int]) -> list[Figure]:
        """Return a figure for each number of rows: one token of so many sequences per step."""
        self._fill(max(sizes, default=0))
        plan = self._plan
        return [
            self._figure(
                f"decode, {rows} rows",
                rows,
                rows * (plan.macs_per_row + plan.late_macs_per_row),
                lambda rows=rows: self._decode_seconds(rows),  # type: ignore[misc]
            )
            for rows in sizes
        ]

    def prefill(self, sizes: Sequence[int]) -> list[Figure]:
        """Return a figure for each length of a fresh prompt; the logits of its last token count."""
        plan = self._plan
        return [
            self._figure(
                f"prefill, {tokens} tokens",
                tokens,
                tokens * plan.macs_per_row + plan.late_macs_per_row,
                lambda tokens=tokens: self._prefill_seconds(tokens),  # type: ignore[misc]
            )
            for tokens in sizes
        ]

    def _figure(self, title: str, size: int, macs: int, measure: Callable[[], float]) -> Figure:
        self._on_section(title)
        before = self._last_ceiling or self._ceiling()
        seconds = measure()
        after = self._last_ceiling = self._ceiling()
        best = Ceiling(
            max(before.read_gb_s, after.read_gb_s), max(before.int8_gops, after.int8_gops)
        )
        return Figure(size, seconds, macs, self._plan.weight_bytes_per_token, best)

    def _ceiling(self) -> Ceiling:
        return measure_ceiling(self._machine, self._plan.threads, self._effort.probe_s)

    def _median_seconds(self, repetitions: int, work: Callable[[int], None]) -> float:
        """Return the median time of work(0), work(1), ... after one call that does not count."""
        work(0)
        times: list[int] = []
        while len(times) < repetitions or sum(times) < self._effort.figure_s * 1e9:
            begin = time.perf_counter_ns()
            work(len(times) + 1)
            times.append(time.perf_counter_ns() - begin)
        return median(times) / 1e9

    def _decode_seconds(self, rows: int) -> float:
        logit_rows = list(range(rows))
        num_decoded = SEQUENCE_TOKENS - PROMPT_TOKENS

        def step(number: int) -> None:
            position = PROMPT_TOKENS + number % num_decoded
            spans = [Span(self._pages(row), 1, position) for row in range(rows)]
            self._runtime.step(self._tokens(rows, number), spans, logit_rows)

        return self._median_seconds(10, step)

    def _prefill_seconds(self, tokens: int) -> float:
        pages = self._tables(0, -(-tokens // self._plan.kv.page_tokens))
        prompt = self._tokens(tokens, 0)
        chunk = self._plan.max_rows

        def whole(_: int) -> None:
            for begin in range(0, tokens, chunk):
                part = prompt[begin : begin + chunk]
                last = [len(part) - 1] if begin + chunk >= tokens else []
                self._runtime.step(part, [Span(pages, len(part), begin)], last)

        return self._median_seconds(self._effort.repetitions, whole)

    def _fill(self, num_sequences: int) -> None:
        """Compute the prompts of the first `num_sequences` sequences."""
        for row in range(num_sequences):
            span = Span(self._pages(row), PROMPT_TOKENS, 0)
            self._runtime.step(self._tokens(PROMPT_TOKENS, row), [span], [])

    def _pages(self, sequence: int) -> list[list[int]]:
        each = SEQUENCE_TOKENS // self._plan.kv.page_tokens
        return self._tables(sequence * each, each)

    def _tables(self, first: int, count: int) -> list[list[int]]:
        # A window and a whole step take more pages than SEQUENCE_TOKENS, so each group has all.
        return [list(range(first, first + count)) for _ in self._plan.kv.groups]

    def _tokens(self, count: int, salt: int) -> list[int]:
        """Return ids spread over the vocabulary; which ones is of no matter."""
        vocab = self._plan.vocab_size
        return [(7919 * index + 104729 * salt + 17) % vocab for index in range(count)]
