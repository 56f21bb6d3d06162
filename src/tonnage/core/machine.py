"""A machine as the planner sees it: what a process may use there, not what the box has."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, Literal, TypeVar, get_args, get_origin

from tonnage.core.errors import MachineError
from tonnage.core.record import record

HugePages = Literal["always", "madvise", "never", "unknown"]
HUGE_PAGE_SETTINGS: tuple[HugePages, ...] = get_args(HugePages)

_T = TypeVar("_T")


@record
class Cache:
    """One kind of cache: `count` instances of `size_bytes`, each shared by `num_sharing` CPUs."""

    level: int
    kind: Literal["data", "instruction", "unified"]
    size_bytes: int
    line_bytes: int
    num_sharing: int
    count: int


@record
class MemoryLimit:
    """A ceiling that something puts on this process, and what already counts against it.

    used_bytes leaves out what the kernel gives back under pressure (pages of files, for the most).
    """

    source: str
    limit_bytes: int
    used_bytes: int

    @property
    def free_bytes(self) -> int:
        """What is left below the ceiling, never negative."""
        return max(0, self.limit_bytes - self.used_bytes)

    def bound_bytes(self, held_bytes: int) -> int:
        """Return what a process that holds `held_bytes` may come to, never beyond the ceiling.

        Pages of libraries that it holds may be counted elsewhere, so that what it holds and what is
        free may add up to more.
        """
        return min(self.limit_bytes, held_bytes + self.free_bytes)


@record
class NumaNode:
    """A memory node with the logical CPUs next to it."""

    node_id: int
    cpus: tuple[int, ...]
    memory_bytes: int


@record
class MachineLimits:
    """What cgroups bound a process to now: bytes per source of a limit.

    free_bytes: what is left below the tightest, less than 0 where more is held. process_bytes: what
    the process may come to in all.
    """

    by_source: Mapping[str, int]
    free_bytes: int
    process_bytes: int


@record
class Machine:
    """What a process really has.

    isa: the instruction set the kernels run with; cpu_isa: the best one this CPU has.
    num_cpus: logical CPUs that are online; affinity: those the process may run on; num_cores: the
    physical cores among those. cpu_quota: CPUs' worth of time per second granted by cgroups, None
    without a quota. memory_total_bytes: RAM of the box; memory_available_bytes: what the kernel
    could hand out now, before the limits, which come tightest first. huge_pages: the transparent
    huge page setting, huge_page_bytes their size.
    """

    cpu_model: str
    isa: str
    cpu_isa: str
    num_cpus: int
    affinity: tuple[int, ...]
    num_cores: int
    cpu_quota: float | None
    caches: tuple[Cache, ...]
    memory_total_bytes: int
    memory_available_bytes: int
    memory_limits: tuple[MemoryLimit, ...]
    huge_pages: HugePages
    huge_page_bytes: int
    numa_nodes: tuple[NumaNode, ...]

    @property
    def default_threads(self) -> int:
        """Threads that neither share a core nor get throttled: at least 1."""
        quota = math.ceil(self.cpu_quota) if self.cpu_quota is not None else len(self.affinity)
        return max(1, min(len(self.affinity), quota, self.num_cores))

    @property
    def node_cores(self) -> int:
        """Cores of this process next to the memory node that has most of them: at least 1."""
        usable = set(self.affinity)
        most = max((len(usable & set(node.cpus)) for node in self.numa_nodes), default=0)
        share = most / len(usable) if most and usable else 1.0
        return max(1, math.ceil(self.num_cores * share))

    @property
    def usable_memory_bytes(self) -> int:
        """Bytes this process can still get: the tightest of the kernel's and every limit's rest."""
        return min([self.memory_available_bytes, *(lim.free_bytes for lim in self.memory_limits)])

    @property
    def last_level_cache_bytes(self) -> int:
        """All instances of the highest cache level together, 0 when unknown."""
        level = max((cache.level for cache in self.caches), default=0)
        return sum(c.size_bytes * c.count for c in self.caches if c.level == level)

    def to_json(self) -> str:
        """Return the machine as JSON with sorted keys; `from_json` restores an equal value."""
        import json

        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Machine":
        """Return the machine that `to_json` wrote. Raises MachineError for anything else."""
        import json

        try:
            return cls._from_dict(json.loads(text))
        except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
            raise MachineError(
                f"The machine description cannot be read ({error}); write one with "
                "`tonnage doctor --json`."
            ) from None

    @classmethod
    def _from_dict(cls, data: Mapping[str, Any]) -> "Machine":
        quota = data["cpu_quota"]
        if quota is not None and not (isinstance(quota, int | float) and 0 < quota < math.inf):
            raise ValueError(f"cpu_quota is {quota!r}, not a positive number or null")
        nested = {
            "affinity": _cpus(data["affinity"]),
            "caches": tuple(_build(Cache, cache) for cache in data["caches"]),
            "memory_limits": tuple(_build(MemoryLimit, limit) for limit in data["memory_limits"]),
            "numa_nodes": tuple(
                _build(NumaNode, {**node, "cpus": _cpus(node["cpus"])})
                for node in data["numa_nodes"]
            ),
        }
        return _build(cls, {**data, **nested})


def _cpus(values: Sequence[Any]) -> tuple[int, ...]:
    if not all(type(value) is int and value >= 0 for value in values):
        raise ValueError(f"{values!r} is not a list of CPUs")
    return tuple(values)


def _build(kind: type[_T], data: Mapping[str, Any]) -> _T:
    """Return a `kind` whose keys are complete, numbers not negative and words known."""
    expected = {field.name: field.type for field in fields(kind)}  # type: ignore[arg-type]
    if set(data) != set(expected):
        raise ValueError(f"keys differ: {', '.join(sorted(set(data) ^ set(expected)))}")
    for name, wanted in expected.items():
        value = data[name]
        if wanted is int and not (type(value) is int and value >= 0):
            raise ValueError(f"{name} is {value!r}, not a whole number")
        if wanted is str and not isinstance(value, str):
            raise ValueError(f"{name} is {value!r}, not a text")
        words = get_args(wanted) if get_origin(wanted) is Literal else (value,)
        if value not in words:
            raise ValueError(f"{name} is {value!r}, not one of {', '.join(words)}")
    return kind(**data)
