"""Why a machine is slower than it was measured to be, from counters before and after."""

from typing import Literal

from tonnage.core.record import record

Cause = Literal["quota", "threads", "tenant", "page cache", "frequency", "memory"]

# A window of steps is slow from so many times its forecast on: above the forecast's own worst
# error, which was 1.26 then (docs/results/forecast.md).
SLOW = 1.3
# Without any counter to show for it, it could still be the forecast of an unusual machine.
SLOW_ALONE = 1.5
# Shares of the time from which a counter explains something.
_THROTTLED = 0.02
_WAITED = 0.08
_STOLEN = 0.05
_CLOCK = 0.9
_FAULTS_PER_S = 50
_COLD = 0.25
_OWN_WAITING: frozenset[Cause] = frozenset({"quota", "threads"})


@record
class Counters:
    """What the kernel has counted so far. All only grow.

    clock_ns: monotonic time. delay_ns: time in which threads of the process were ready and had no
    CPU, over all threads. throttled_ns: time in which cgroups held the process back; num_throttled:
    periods in which they did, which are counted as they begin, the time only as it ends. stolen_ns:
    time that the hypervisor gave to others, over all CPUs. major_faults: pages that came from a
    disk. read_bytes: of this process, from a disk.
    """

    clock_ns: int
    delay_ns: int
    throttled_ns: int
    num_throttled: int
    stolen_ns: int
    major_faults: int
    read_bytes: int


@record
class Window:
    """Some consecutive steps, and what was counted around them.

    slowness: measured time over forecast time. cpus: how many the process may use at once without
    sharing a core. clock: speed of the clock over what was measured, None when not looked at.
    """

    before: Counters
    after: Counters
    slowness: float
    threads: int
    cpus: int
    clock: float | None = None


@record
class Slowdown:
    """One reason, and a sentence about it with its figures."""

    cause: Cause
    sentence: str


def slowdowns_of(window: Window) -> tuple[Slowdown, ...]:
    """Return why a window was slow, what is best founded first; nothing for one that was not.

    What is left when no counter moved, and the window took SLOW_ALONE times its forecast, is the
    memory: others use its bandwidth, or it is no longer what was measured.
    """
    if window.slowness < SLOW:
        return ()
    found = [f for f in (_quota(window), _threads(window), _disk(window)) if f is not None]
    tenant = _tenant(window, {slowdown.cause for slowdown in found})
    # Who has to share a CPU cannot know its clock.
    shared = tenant is not None or any(slowdown.cause in _OWN_WAITING for slowdown in found)
    clock = None if shared else _clock(window)
    found += [slowdown for slowdown in (tenant, clock) if slowdown is not None]
    if not found and window.slowness >= SLOW_ALONE:
        found.append(
            Slowdown(
                "memory",
                "its memory is slower than measured though this process has its CPUs: something "
                "else reads or writes much, or the measurement is out of date",
            )
        )
    return tuple(found)


def cold_load(read_bytes: int, weight_bytes: int) -> Slowdown | None:
    """Return the slowdown of a load that read a quarter of its weights or more from a disk."""
    if read_bytes < _COLD * weight_bytes:
        return None
    return Slowdown(
        "page cache",
        f"the page cache was cold: {read_bytes / 2**20:,.0f} MiB of the model came from the disk",
    )


def _elapsed(window: Window) -> int:
    return max(1, window.after.clock_ns - window.before.clock_ns)


def _quota(window: Window) -> Slowdown | None:
    share = (window.after.throttled_ns - window.before.throttled_ns) / _elapsed(window)
    periods = window.after.num_throttled - window.before.num_throttled
    if share < _THROTTLED and not periods:
        return None
    return Slowdown(
        "quota",
        f"the CPU quota of its cgroup was spent in {periods:,} periods, which held it back for "
        f"{min(share, 1.0):.0%} of the time",
    )


def _threads(window: Window) -> Slowdown | None:
    if window.threads <= window.cpus:
        return None
    return Slowdown(
        "threads",
        f"{window.threads} threads share {window.cpus} cores; use --threads {window.cpus}",
    )


def _disk(window: Window) -> Slowdown | None:
    faults = window.after.major_faults - window.before.major_faults
    if faults < max(2.0, _FAULTS_PER_S * _elapsed(window) / 1e9):
        return None
    return Slowdown("page cache", f"the page cache was cold: {faults:,} pages came from the disk")


def _clock(window: Window) -> Slowdown | None:
    if window.clock is None or window.clock >= _CLOCK:
        return None
    return Slowdown("frequency", f"the CPU's clock is at {window.clock:.0%} of what was measured")


def _tenant(window: Window, known: set[Cause]) -> Slowdown | None:
    """Return what others on the same CPUs cost; waiting that is our own does not count."""
    elapsed = _elapsed(window)
    stolen = (window.after.stolen_ns - window.before.stolen_ns) / (elapsed * window.cpus)
    waited = (window.after.delay_ns - window.before.delay_ns) / (elapsed * window.threads)
    if stolen >= _STOLEN:
        return Slowdown("tenant", f"the host gave {stolen:.0%} of its CPUs to other machines")
    if waited < _WAITED or known & _OWN_WAITING:
        return None
    return Slowdown(
        "tenant",
        f"other processes use its CPUs: its threads waited for one {waited:.0%} of the time",
    )
