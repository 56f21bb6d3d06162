"""Threads on CPUs of their own while they are measured: two on one CPU show half the speed."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from tonnage.core.machine import Machine


def task_ids() -> set[int]:
    """Return the ids of this process's threads, none where the system does not say."""
    try:
        return {int(name) for name in os.listdir("/proc/self/task")}
    except OSError:
        return set()


@contextmanager
def team_on_cpus(machine: Machine, workers: Sequence[int]) -> Iterator[None]:
    """Keep the calling thread and `workers` (thread ids) each on a CPU; undone at the end.

    Does nothing where CPUs share cores, since which ones do is not known here, or do not suffice.
    """
    cpus = machine.affinity
    tasks = (0, *workers)
    if machine.num_cores < len(cpus) or len(tasks) > len(cpus):
        yield
        return
    _place({task: {cpu} for task, cpu in zip(tasks, cpus, strict=False)})
    try:
        yield
    finally:
        _place({task: set(cpus) for task in tasks})


def _place(places: dict[int, set[int]]) -> None:
    for task, cpus in places.items():
        # A thread that has ended, or a system that forbids it, is no reason to stop.
        with suppress(OSError):
            os.sched_setaffinity(task, cpus)
