"""Measuring the constants of the forecast on this machine, through the kernels that will run.

Rounds go over all measurements, and of each the median pass counts: a forecast is of what a user
will see, and the fastest of several passes is what nobody sees.
"""

import math
import random
import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import count, product
from statistics import median

from tonnage import _native
from tonnage.core.block_format import ALL_FORMATS, BY_NAME, BlockFormat
from tonnage.core.layout import PAGE_TOKENS, kv_head_bytes, panel_bytes
from tonnage.core.machine import Machine
from tonnage.core.plan import KV_FORMATS
from tonnage.core.rates import PRODUCT_ROWS, AttendRate, PageRate, ProductRate, Rates, TeamRates
from tonnage.core.sampling import SamplingOptions
from tonnage.machine.clock import clock_ops_per_s
from tonnage.machine.ground import VOCAB, WINDOW_BYTES, Ground, Trial
from tonnage.machine.placement import task_ids, team_on_cpus
from tonnage.machine.rates_file import rates_key
from tonnage.machine.report import thread_counts

PROBE_S = 2.0
_ROWS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128, 512)
_FRESH_ROWS = (1, 2, 4, 6, 8, 12, 16, 24, 32, 64, 512)
_FEW_ROWS = 16  # above, products wait for the multipliers, and a smaller matrix tells as much
_COLS, _OUT_ROWS, _FEWER_OUT_ROWS = 1024, 4096, 1024
_QUERIES = (1, 2, 3, 4, 6, 8, 48)
_HEAD_DIMS = (64, 256)
_POSITIONS = 512
# Attention over pages from memory: positions seen, and how the queries share keys.
_FEW_SEEN, _MANY_SEEN, _SEEN_OPS = 80, 512, 8
_SEEN_GROUP = 3
_SEEN = ((64, _FEW_SEEN), (64, _MANY_SEEN), (256, _FEW_SEEN))
_ELEMENT_ROWS, _ELEMENTS = 64, 1024
_SMALL, _SMALL_OPS = (640, 576), 16
_EMPTY_OPS = 256
# One pass may have been disturbed, three hardly are.
_LEAST_ROUNDS = 3
_QUICK_OPS_PER_S = 1e11
_PAUSE_S = 150e-6

Key = tuple[str | int, ...]


def measure_rates(
    machine: Machine,
    seconds: float = PROBE_S,
    progress: Callable[[float], None] | None = None,
    counts: Sequence[int] = (),
) -> Rates:
    """Return what this machine does now: about `seconds`, and memory of twice its caches.

    progress is told the share that is done; counts: of which numbers of threads, ascending. Raises
    ProbeError when that memory is not to be had.
    """
    ground = Ground(machine)
    clock = clock_ops_per_s(machine.isa, 0.02)
    slower = 1 << max(0, round(_QUICK_OPS_PER_S / clock).bit_length() - 1)
    counts = counts or thread_counts(machine)
    teams = []
    for index, threads in enumerate(counts):
        if progress is not None:
            progress(index / len(counts))
        team = _Team(ground, machine, threads, slower)
        team.read()
        with team_on_cpus(machine, team.task_ids):
            teams.append(team.measure(0.8 * seconds / len(counts)))
    return Rates(rates_key(machine), machine.isa, clock, logit_s(ground.arena), tuple(teams))


class _Team:
    """One number of threads, and all passes of each measurement with it."""

    def __init__(self, ground: Ground, machine: Machine, threads: int, slower: int) -> None:
        self._ground = ground
        # Matrices are so many times smaller where a pass would take long.
        self._slower = slower
        self._isa = machine.isa
        self._cache_bytes = machine.last_level_cache_bytes
        self._threads = threads
        before = task_ids()
        self._executor = _native.Executor(machine.isa, threads)
        self.task_ids = sorted(task_ids() - before)
        self._passes: dict[Key, list[float]] = {}
        self._typical: dict[Key, float] = {}
        self._reads: list[float] = []

    def read(self) -> None:
        """Measure plain reads, with threads of their own: before this team has its CPUs."""
        self._reads = [self._read(num_bytes) for num_bytes in self._sizes()]

    def measure(self, seconds: float) -> TeamRates:
        """Return the team's rates; goes some times round all measurements."""
        end = time.perf_counter() + seconds
        least = _LEAST_ROUNDS if self._slower == 1 else 1
        awake, starts = self._ground.quantize(1, 32), list[float]()
        known = {key: make() for key, make in self._cached_trials()}
        for number in count():
            if number >= least and time.perf_counter() > end:
                break
            for key, trial in known.items():
                # The first run wakes the threads and fills the cache.
                run(self._executor, trial)
                self._note(key, run(self._executor, trial))
            for form, rows in product(ALL_FORMATS, _FRESH_ROWS):
                trial = self._ground.products(form, rows, *self._size(form, rows), fresh=True)
                run(self._executor, awake)
                self._note(("fresh", form.name, rows), run(self._executor, trial))
            for kv_format, (dim, seen) in product(KV_FORMATS, _SEEN):
                trial = self._fresh_attends(kv_format, dim, seen)
                run(self._executor, awake)
                self._note(("seen", kv_format, dim, seen), run(self._executor, trial))
            starts.append(self._start_s(awake))
        self._typical = {key: median(passes) for key, passes in self._passes.items()}
        return self._rates(median(starts))

    def _size(self, form: BlockFormat, rows: int) -> tuple[tuple[int, int], int]:
        """Return the shape of the matrices that a measurement multiplies, and how many they are."""
        if rows > _FEW_ROWS:
            return (max(64, _FEWER_OUT_ROWS // self._slower), _COLS), 1
        out_rows = max(64, _OUT_ROWS // self._slower)
        matrix = panel_bytes(form, _COLS) * (out_rows // 32)
        whole = rows <= 4 and self._slower == 1
        return (out_rows, _COLS), max(1, WINDOW_BYTES // matrix) if whole else 1

    def _note(self, key: Key, seconds: float) -> None:
        self._passes.setdefault(key, []).append(seconds)

    def _sizes(self) -> tuple[int, int, int]:
        """Return sizes that lie in the last cache, partly, and (nearly) not at all."""
        cache = self._cache_bytes or WINDOW_BYTES
        return cache // 2, 2 * cache, self._ground.num_bytes

    def _read(self, num_bytes: int) -> float:
        """Return the seconds per byte of reading `num_bytes` again and again."""
        return min(_native.probe_read(self._isa, self._threads, num_bytes, 0.03)) / num_bytes

    def _start_s(self, empty: Trial) -> float:
        """Return the median seconds of an empty step behind a pause as between two tokens."""
        times = []
        for _ in range(9):
            pause_end = time.perf_counter() + _PAUSE_S
            while time.perf_counter() < pause_end:
                pass
            times.append(run(self._executor, empty))
        return median(times)

    def _cached_trials(self) -> Iterator[tuple[Key, Callable[[], Trial]]]:
        """Yield what is measured out of the cache, and how to make its program."""
        ground = self._ground
        for form in ALL_FORMATS:
            for rows in _ROWS:
                yield (
                    (form.name, rows),
                    partial(ground.products, form, rows, *self._size(form, rows)),
                )
        for kv_format, queries, dim in product(KV_FORMATS, _QUERIES, _HEAD_DIMS):
            yield (kv_format, queries, dim), partial(self._attend, queries, dim, kv_format)
        for rows in (1, PRODUCT_ROWS):
            trial = partial(ground.products, BY_NAME["Q8_0"], rows, _SMALL, _SMALL_OPS)
            yield ("small", rows), trial
        for ops in (1, _EMPTY_OPS + 1):
            yield ("empty", ops), partial(ground.quantize, 1, 32, ops)
        for rows in (1, _ELEMENT_ROWS):
            shape = (_ELEMENTS, 32)
            yield ("matmul", rows), partial(ground.products, BY_NAME["Q8_0"], rows, shape, 1)
            yield ("gated", rows), partial(ground.gated, rows, _ELEMENTS)
            yield ("norm", rows), partial(ground.norm, rows, _ELEMENTS)
            yield ("quantize", rows), partial(ground.quantize, rows, _ELEMENTS)
            yield ("rotate", rows), partial(ground.rotate, rows, 4, 64)

    def _attend(self, queries: int, dim: int, kv_format: str) -> Trial:
        """Return an attention in which `queries` share each pass, evenly over the threads."""
        rows, (heads, kv_heads) = self._attend_size(queries, dim)
        return self._ground.attend(rows, _POSITIONS - rows, (heads, kv_heads), dim, kv_format)

    def _fresh_attends(self, kv_format: str, dim: int, seen: int) -> Trial:
        heads = self._seen_heads
        shape = (_SEEN_GROUP * heads, heads)
        return self._ground.fresh_attends(seen - 1, shape, dim, kv_format, _SEEN_OPS)

    @property
    def _seen_heads(self) -> int:
        return 2 * self._threads

    def _rates(self, start_s: float) -> TeamRates:
        cached_s, partly_s, read_s = self._reads
        partly = self._sizes()[1]
        # Of a stream twice as large as the cache, the share that still comes from it.
        kept = (
            min(max((read_s - partly_s) / (read_s - cached_s), 0.0), 0.5)
            if read_s > cached_s
            else 0
        )
        cached_bytes = int(kept * partly)
        best = self._typical
        op_s = max(1e-9, (best["empty", _EMPTY_OPS + 1] - best["empty", 1]) / _EMPTY_OPS)
        call_s = best["empty", 1] - op_s
        elements = {op: self._element_s(op) for op in ("matmul", "gated", "norm", "quantize")}
        elements["rotate"] = self._element_s("rotate") * _ELEMENTS / (3 * 4 * 64)
        elements["embed"] = elements["quantize"]
        shared = elements["matmul"] / self._threads
        products = tuple(
            self._product(form, op_s, call_s, shared, cached_bytes) for form in ALL_FORMATS
        )
        rate = next(p for p in products if p.format == "Q8_0")
        one, most = (
            self._overhead_s(rows, rate, call_s, op_s, shared) for rows in (1, PRODUCT_ROWS)
        )
        return TeamRates(
            threads=self._threads,
            read_bytes_per_s=max(1 / read_s, *(p.bytes_per_s for p in products)),
            cached_bytes=cached_bytes,
            call_s=max(1e-9, start_s - op_s),
            op_s=op_s,
            product_s=one,
            product_row_s=max(0.0, most - one) / (PRODUCT_ROWS - 1),
            element_s=tuple(sorted(elements.items())),
            attend=tuple(
                self._attend_rate(kv_format, queries, op_s + call_s)
                for kv_format, queries in product(KV_FORMATS, _QUERIES)
            ),
            pages=tuple(self._page_rate(kv_format, call_s, op_s) for kv_format in KV_FORMATS),
            products=products,
        )

    def _overhead_s(
        self, rows: int, rate: ProductRate, call_s: float, op_s: float, each: float
    ) -> float:
        """Return what a small product takes beside its weights; each: as in _product."""
        out_rows, cols = _SMALL
        whole = (self._typical["small", rows] - call_s) / _SMALL_OPS - op_s - each * out_rows * rows
        return max(0.0, whole - out_rows * cols * rate.weight_s(rows, 1.0))

    def _element_s(self, op: str) -> float:
        """Return seconds per element on one thread; with many rows every thread has its share."""
        many = self._typical[op, _ELEMENT_ROWS] - self._typical[op, 1]
        return max(0.0, many / ((_ELEMENT_ROWS - 1) * _ELEMENTS) * self._threads)

    def _product(
        self, form: BlockFormat, op_s: float, call_s: float, each: float, cached_bytes: int
    ) -> ProductRate:
        """Return the rates of one format; each: seconds that writing an element takes."""

        def rates(kind: tuple[str, ...], wanted: Sequence[int]) -> dict[int, float]:
            found = {}
            for rows in wanted:
                (out_rows, cols), ops = self._size(form, rows)
                whole = self._typical[*kind, form.name, rows]
                spent = max(whole - call_s - ops * (op_s + each * out_rows * rows), 0.1 * whole)
                found[rows] = ops * out_rows * cols * rows / spent
            return found

        cached, mixed = rates((), _ROWS), rates(("fresh",), _FRESH_ROWS)
        # A little of what is called fresh comes from the cache.
        kept = min(0.5, cached_bytes / self._ground.num_bytes)
        fresh = {n: min(cached[n], without_cached(mixed[n], cached[n], kept)) for n in mixed}
        cached, fresh = no_slower_than_more(cached), no_slower_than_more(fresh)
        weight_bytes = panel_bytes(form, _COLS) / (32 * _COLS)
        return ProductRate(
            form.name, weight_bytes * fresh[1], tuple(fresh.items()), tuple(cached.items())
        )

    def _attend_rate(self, kv_format: str, queries: int, beside_s: float) -> AttendRate:
        """Return what head sizes tell apart: the part per pair and the part per multiply-add."""
        pair_s = []
        for dim in _HEAD_DIMS:
            rows, (heads, _) = self._attend_size(queries, dim)
            pairs = heads * rows * (_POSITIONS - (rows - 1) / 2)
            pair_s.append(max(1e-12, self._typical[kv_format, queries, dim] - beside_s) / pairs)
        low, high = (2 * dim for dim in _HEAD_DIMS)
        mac_s = max((pair_s[1] - pair_s[0]) / (high - low), 0.25 * pair_s[1] / high)
        return AttendRate(kv_format, queries, max(0.0, pair_s[0] - mac_s * low), mac_s)

    def _page_rate(self, kv_format: str, call_s: float, op_s: float) -> PageRate:
        """Return what fresh pages cost beside the arithmetic, from few of them and from many."""
        heads = self._seen_heads
        rate = self._attend_rate(kv_format, _SEEN_GROUP, op_s + call_s)

        def beside_s(dim: int, seen: int) -> float:
            whole = (self._typical["seen", kv_format, dim, seen] - call_s) / _SEEN_OPS - op_s
            pair_s = rate.pair_s + rate.mac_s * 2 * dim
            return max(0.0, whole - _SEEN_GROUP * heads * seen * pair_s)

        def position_bytes(dim: int) -> float:
            return kv_head_bytes(dim, dim, kv_format) * heads / PAGE_TOKENS

        def visit_s(dim: int) -> float:
            beside = beside_s(dim, _FEW_SEEN) - byte_s * position_bytes(dim) * _FEW_SEEN
            return max(0.0, beside) / heads

        low, high = _HEAD_DIMS
        few, many = beside_s(low, _FEW_SEEN), beside_s(low, _MANY_SEEN)
        byte_s = max(0.0, many - few) / (position_bytes(low) * (_MANY_SEEN - _FEW_SEEN))
        element_s = max(0.0, visit_s(high) - visit_s(low)) / (2 * (high - low))
        return PageRate(kv_format, max(0.0, visit_s(low) - element_s * 2 * low), element_s, byte_s)

    def _attend_size(self, queries: int, dim: int) -> tuple[int, tuple[int, int]]:
        """Return (rows, heads of queries and of keys) in which so many queries share a pass."""
        group = queries if queries < 16 else 3
        kv_heads = self._threads * max(1, 1024 // (dim * group * self._threads))
        return queries // group, (group * kv_heads, kv_heads)


def without_cached(mixed: float, cached: float, kept: float) -> float:
    """Return the rate of fresh weights, where a share `kept` of the mixed ones came at `cached`.

    Rates that do not go together, because one was disturbed, leave the mixed one as it is.
    """
    rest = 1 / mixed - kept / cached
    return (1 - kept) / rest if rest > 0 else mixed


def no_slower_than_more(rates: Mapping[int, float]) -> dict[int, float]:
    """Return rates by rows in which no pass takes longer than one that more rows share.

    Such a measurement was disturbed; with it one token of Qwen 0.5B came out 15 % too slow.
    """
    result: dict[int, float] = {}
    least_s = math.inf
    for rows in sorted(rates, reverse=True):
        least_s = min(least_s, rows / rates[rows])
        result[rows] = rows / least_s
    return dict(sorted(result.items()))


def run(executor: _native.Executor, trial: Trial) -> float:
    """Return the seconds of one run."""
    pages = list(range((trial.position + trial.rows + 63) // 64))
    tokens, spans = [0] * trial.rows, [([pages], trial.rows, trial.position)]
    begin = time.perf_counter()
    executor.run(trial.program, tokens, spans, [])
    return time.perf_counter() - begin


def logit_s(arena: _native.Arena, draws: int = 20) -> float:
    """Return the seconds per entry of the vocabulary that drawing a token takes, as by default."""
    defaults = SamplingOptions()
    params = _native.SamplingParams()
    for name in ("temperature", "top_k", "top_p", "min_p"):
        setattr(params, name, getattr(defaults, name))
    sampler = _native.Sampler(VOCAB, params)
    draw = random.Random(0)
    logits = array("f", (draw.gauss(0.0, 3.0) for _ in range(VOCAB))).tobytes()
    times = []
    for _ in range(draws):
        arena.write(0, logits)
        begin = time.perf_counter()
        sampler.sample(arena, 0, VOCAB, -1)
        times.append(time.perf_counter() - begin)
    return min(times) / VOCAB
