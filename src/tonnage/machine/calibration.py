"""Measuring the constants of the forecast on this machine, through the kernels that will run.

Rounds go over all measurements, and of each the median pass counts: a forecast is of what a user
will see, and the fastest of several passes is faster than that.
"""

import random
import time
from array import array
from collections.abc import Callable, Sequence
from statistics import median

from tonnage import _native
from tonnage.core.block_format import BY_NAME
from tonnage.core.machine import Machine
from tonnage.core.rates import Rates, TeamRates
from tonnage.core.sampling import SamplingOptions
from tonnage.machine.cases import Key, Sizes, cached_cases, fresh_cases
from tonnage.machine.clock import clock_ops_per_s
from tonnage.machine.microbench import VOCAB, Case, MicrobenchArena
from tonnage.machine.placement import task_ids, team_on_cpus
from tonnage.machine.rates_file import rates_key
from tonnage.machine.rates_fit import Fit
from tonnage.machine.report import thread_counts

PROBE_S = 2.0
# One pass may have been disturbed, three hardly are.
_LEAST_ROUNDS = 3
_QUICK_OPS_PER_S = 1e11
_PAUSE_S = 150e-6
_STARTS = 9
_SETTLING = 4


def measure_rates(
    machine: Machine,
    seconds: float = PROBE_S,
    progress: Callable[[float], None] | None = None,
    counts: Sequence[int] = (),
) -> Rates:
    """Return what this machine does now: about `seconds`, and memory of twice its caches.

    progress receives the share that is done; counts: of which numbers of threads, ascending. Raises
    ProbeError when that memory is not to be had.
    """
    probe = Probe(machine, counts or thread_counts(machine))
    each_s = 0.8 * seconds / probe.num_teams
    for index in range(probe.num_teams):
        if progress is not None:
            progress(index / probe.num_teams)
        end = time.perf_counter() + each_s
        number = 0
        while number < probe.least_rounds or time.perf_counter() < end:
            probe.round(index)
            number += 1
    return probe.rates()


class Probe:
    """All measurements of some numbers of threads, round by round.

    A caller with other work between the rounds takes it; others call `measure_rates`.
    """

    def __init__(self, machine: Machine, counts: Sequence[int]) -> None:
        """Allocate memory of twice the caches; counts: numbers of threads, ascending.

        Raises ProbeError when that memory is not to be had.
        """
        self._machine = machine
        self._arena = MicrobenchArena(machine)
        self._clock = clock_ops_per_s(machine.isa, 0.02)
        slower = 1 << max(0, round(_QUICK_OPS_PER_S / self._clock).bit_length() - 1)
        self.least_rounds = _LEAST_ROUNDS if slower == 1 else 1
        self._teams = [_Team(self._arena, machine, Sizes(n, slower)) for n in counts]

    @property
    def num_teams(self) -> int:
        """How many numbers of threads there are."""
        return len(self._teams)

    def round(self, index: int = 0) -> None:
        """Go once over all measurements of the team `index`, its threads on CPUs of their own."""
        team = self._teams[index]
        with team_on_cpus(self._machine, team.task_ids):
            team.round()

    def rates(self) -> Rates:
        """Return what the rounds so far say: at least one of every team."""
        machine = self._machine
        teams = tuple(team.rates() for team in self._teams)
        sample_s = logit_s(self._arena.memory, machine.isa)
        return Rates(rates_key(machine), machine.isa, self._clock, sample_s, teams)


class _Team:
    """One number of threads, and all passes of each measurement with it."""

    def __init__(self, arena: MicrobenchArena, machine: Machine, sizes: Sizes) -> None:
        self._arena, self._sizes = arena, sizes
        before = task_ids()
        self._executor = _native.Executor(machine.isa, sizes.threads)
        self.task_ids = sorted(task_ids() - before)
        self._passes: dict[Key, list[float]] = {}
        self._starts: list[float] = []
        # With threads of their own, so before this team has its CPUs.
        num_bytes = arena.num_bytes
        reads = _native.probe_read(machine.isa, sizes.threads, num_bytes, 0.03)
        self._read_s = min(reads) / num_bytes
        self._known: dict[Key, Case] = {}
        self._awake = arena.quantize(1, 32)

    def round(self) -> None:
        """Take one more pass of each measurement."""
        if not self._known:
            self._known = dict(cached_cases(self._arena, self._sizes))
        for key, case in self._known.items():
            # The first run wakes the threads and fills the cache; what a long stream leaves in it
            # settles after some.
            for _ in range(_SETTLING if key == ("again",) else 1):
                run(self._executor, case)
            self._note(key, run(self._executor, case))
        for key, case in fresh_cases(self._arena, self._sizes):
            # What is done with few pages is short: code and scratch are to be warm, as in a step.
            before = self._known["kept", *key[1:]] if key[0] == "seen" else self._awake
            run(self._executor, before)
            self._note(key, run(self._executor, case))
        self._starts += [self._start_s() for _ in range(_STARTS)]

    def rates(self) -> TeamRates:
        """Return the team's rates."""
        return Fit(
            self._sizes,
            {key: median(passes) for key, passes in self._passes.items()},
            start_s=median(self._starts),
            read_s=self._read_s,
            arena_bytes=self._arena.num_bytes,
        ).rates()

    def _note(self, key: Key, seconds: float) -> None:
        self._passes.setdefault(key, []).append(seconds)

    def _start_s(self) -> float:
        """Return the seconds of an empty step as between two tokens.

        The step before filled the caches with weights, and then there was a pause.
        """
        form = BY_NAME["Q8_0"]
        shape, _ = self._sizes.products(form, 1)
        run(self._executor, self._arena.products(form, 1, shape, 1, fresh=True))
        pause_end = time.perf_counter() + _PAUSE_S
        while time.perf_counter() < pause_end:
            pass
        return run(self._executor, self._awake)


def run(executor: _native.Executor, case: Case) -> float:
    """Return the seconds of one run."""
    pages = list(range((case.position + case.rows + 63) // 64))
    tokens, spans = case.token_ids, [([pages], case.rows, case.position)]
    begin = time.perf_counter()
    executor.run(case.program, tokens, spans, [])
    return time.perf_counter() - begin


def logit_s(arena: _native.Arena, isa: str, num_samples: int = 20) -> float:
    """Return the seconds per entry of the vocabulary that sampling takes, with usual options."""
    defaults = SamplingOptions()
    params = _native.SamplingParams()
    for name in ("temperature", "top_k", "top_p", "min_p"):
        setattr(params, name, getattr(defaults, name))
    sampler = _native.Sampler(VOCAB, params)
    rng = random.Random(0)
    logits = array("f", (rng.gauss(0.0, 3.0) for _ in range(VOCAB))).tobytes()
    times = []
    for _ in range(num_samples):
        arena.write(0, logits)
        begin = time.perf_counter()
        sampler.sample(arena, 0, VOCAB, -1, isa)
        times.append(time.perf_counter() - begin)
    return min(times) / VOCAB
