"""Measuring what this machine can do at best: the ceilings that speeds are printed beside.

Each probe starts its own threads without the GIL, repeats a fixed piece of work and keeps the rate
of every pass. The best pass is the ceiling: noise of other processes only ever takes away.
"""

import os
from collections.abc import Sequence

from tonnage import _native
from tonnage.core.errors import ProbeError
from tonnage.core.machine import Machine
from tonnage.core.record import record
from tonnage.core.units import format_bytes
from tonnage.machine.host import read_machine

_MIN_BUFFER_BYTES = 512 << 20
_MAX_DISK_BYTES = 1 << 30
_MAX_THREADS = 4096


@record
class Rate:
    """A measured rate in units of 1e9 per second: the best pass and the median of all."""

    best: float
    median: float
    num_passes: int

    @classmethod
    def of(cls, rates: Sequence[float]) -> "Rate":
        """Summarize rates per second; there is at least one."""
        ordered = sorted(rates)
        return cls(ordered[-1] / 1e9, ordered[len(ordered) // 2] / 1e9, len(ordered))


@record
class DiskRead:
    """A cold read of a file. direct: the page cache was bypassed, not merely asked to forget."""

    num_bytes: int
    seconds: float
    direct: bool

    @property
    def gb_per_s(self) -> float:
        """Read rate in GB/s (1e9 bytes)."""
        return self.num_bytes / self.seconds / 1e9


def buffer_bytes(machine: Machine) -> int:
    """Return the size of the buffer that the bandwidth is measured on.

    It is four times the last-level cache and at least 512 MiB, or half of what is free when that is
    less. Raises ProbeError when it would not exceed the caches twice over.
    """
    cache_bytes = machine.last_level_cache_bytes
    wanted = max(_MIN_BUFFER_BYTES, 4 * cache_bytes)
    num_bytes = min(wanted, machine.usable_memory_bytes // 2)
    needed = max(2 * cache_bytes, 16 << 20)
    if num_bytes < needed:
        raise ProbeError(
            f"The read bandwidth needs a buffer of {format_bytes(needed)}, and only half of "
            f"{format_bytes(machine.usable_memory_bytes)} may be taken; free some memory or raise "
            "the limit."
        )
    return num_bytes


def read_bandwidth(machine: Machine, threads: int, seconds: float) -> Rate:
    """Return the GB/s at which `threads` threads together read memory once, front to back.

    Takes `buffer_bytes(machine)` of memory for about `seconds`: a caller that reports its own peak
    RSS measures in another process. Raises ProbeError.
    """
    _check(threads, seconds)
    num_bytes = buffer_bytes(machine)
    try:
        passes = _native.probe_read(machine.isa, threads, num_bytes, seconds)
    except MemoryError:
        raise ProbeError(
            f"The system refused {format_bytes(num_bytes)} for measuring the read bandwidth; free "
            "some memory or raise the limit."
        ) from None
    except RuntimeError:
        raise _too_many(threads) from None
    return Rate.of([num_bytes / spent for spent in passes])


def int8_peak(isa: str, threads: int, seconds: float) -> Rate:
    """Return int8 GOPS in registers; a multiply-accumulate counts as two. Raises ProbeError."""
    _check(threads, seconds)
    try:
        return Rate.of(_native.probe_int8(isa, threads, seconds))
    except RuntimeError:
        raise _too_many(threads) from None


def f32_peak(isa: str, threads: int, seconds: float) -> Rate:
    """Return float32 GFLOPS in registers; a multiply-add counts as two. Raises ProbeError."""
    _check(threads, seconds)
    try:
        return Rate.of(_native.probe_f32(isa, threads, seconds))
    except RuntimeError:
        raise _too_many(threads) from None


def measure_read_bandwidth(threads: int, seconds: float = 1.0) -> float:
    """Return the best GB/s of `read_bandwidth` on this machine."""
    return read_bandwidth(read_machine(), threads, seconds).best


def measure_int8_peak(threads: int, seconds: float = 0.5) -> float:
    """Return the best GOPS of `int8_peak` on this machine, with the instruction set in use."""
    return int8_peak(read_machine().isa, threads, seconds).best


def measure_f32_peak(threads: int, seconds: float = 0.5) -> float:
    """Return the best GFLOPS of `f32_peak` on this machine, with the instruction set in use."""
    return f32_peak(read_machine().isa, threads, seconds).best


def measure_disk_read(path: str | os.PathLike[str], seconds: float = 2.0) -> DiskRead:
    """Read up to 1 GiB of the file `path`, one thread, past the page cache, for about `seconds`.

    Raises ProbeError when the file cannot be read or is empty.
    """
    _check(1, seconds)
    name = os.fspath(path)
    if not os.path.isfile(name):
        raise ProbeError(f"{name} is not a file; name one of at least a few hundred MiB.")
    try:
        num_bytes, spent, direct = _native.probe_disk(name, _MAX_DISK_BYTES, seconds)
    except OSError as error:
        raise ProbeError(f"{name} cannot be read: {error.strerror}.") from None
    if not num_bytes:
        raise ProbeError(f"{name} is empty; name a file of at least a few hundred MiB.")
    return DiskRead(num_bytes, spent, direct)


def _check(threads: int, seconds: float) -> None:
    if not 1 <= threads <= _MAX_THREADS:
        raise ProbeError(f"{threads} threads cannot be measured; use 1 to {_MAX_THREADS}.")
    if not 0 < seconds <= 600:
        raise ProbeError(f"{seconds} s cannot be measured for; use more than 0 and at most 600 s.")


def _too_many(threads: int) -> ProbeError:
    return ProbeError(f"The system refused to start {threads} threads; use fewer.")
