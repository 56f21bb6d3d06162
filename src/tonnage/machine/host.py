"""What this process really has: CPU, caches, memory and the limits on them, from /proc and /sys."""

import os
from collections import Counter
from collections.abc import Mapping

from tonnage import _native
from tonnage.core.machine import HUGE_PAGE_SETTINGS, Cache, HugePages, Machine, NumaNode
from tonnage.machine.host_files import HostFiles, cpu_list, kibibytes
from tonnage.machine.isa import ISA_VARIABLE, select_isa
from tonnage.machine.limits import cpu_quota, memory_limits

_CPU = "/sys/devices/system/cpu"
_NODE = "/sys/devices/system/node"
_THP = "/sys/kernel/mm/transparent_hugepage"


def read_machine(root: str = "/", environ: Mapping[str, str] | None = None) -> Machine:
    """Return the machine below `root` (`/`, or a copy of its /proc and /sys).

    environ: where TONNAGE_ISA is looked up, os.environ by default. What a file does not say is
    left out or counted conservatively; nothing is measured. Raises IsaError for a bad TONNAGE_ISA.
    """
    files = HostFiles(root)
    forced = (os.environ if environ is None else environ).get(ISA_VARIABLE)
    cpuinfo = files.fields("/proc/cpuinfo")
    features = frozenset((cpuinfo.get("flags") or cpuinfo.get("Features") or "").split())
    affinity = _affinity(files)
    memory = files.fields("/proc/meminfo")
    total = kibibytes(memory.get("MemTotal", "")) or 0
    available = kibibytes(memory.get("MemAvailable", "") or memory.get("MemFree", ""))
    return Machine(
        cpu_model=cpuinfo.get("model name") or cpuinfo.get("Hardware") or "unknown",
        isa=select_isa(features, forced),
        cpu_isa=_native.best_isa(features),
        num_cpus=len(cpu_list(files.line(f"{_CPU}/online"))) or len(affinity),
        affinity=affinity,
        num_cores=_num_cores(files, affinity),
        cpu_quota=cpu_quota(files),
        caches=_caches(files, affinity),
        memory_total_bytes=total,
        memory_available_bytes=total if available is None else available,
        memory_limits=memory_limits(files),
        huge_pages=_huge_pages(files),
        huge_page_bytes=files.number(f"{_THP}/hpage_pmd_size")
        or kibibytes(memory.get("Hugepagesize", ""))
        or 0,
        numa_nodes=_numa_nodes(files),
    )


def _affinity(files: HostFiles) -> tuple[int, ...]:
    """Return the CPUs this process may run on; some sandboxes do not state them in /proc."""
    stated = cpu_list(files.fields("/proc/self/status").get("Cpus_allowed_list", ""))
    return stated or tuple(sorted(os.sched_getaffinity(0)))


def _num_cores(files: HostFiles, affinity: tuple[int, ...]) -> int:
    """Return the physical cores of `affinity`; a CPU without known siblings is its own core."""
    cores = set()
    for cpu in affinity:
        siblings = ""
        for name in ("core_cpus_list", "thread_siblings_list"):
            siblings = siblings or files.line(f"{_CPU}/cpu{cpu}/topology/{name}")
        cores.add(cpu_list(siblings) or (cpu,))
    return len(cores)


def _caches(files: HostFiles, affinity: tuple[int, ...]) -> tuple[Cache, ...]:
    """Return the caches next to the CPUs of `affinity`, each instance counted once."""
    instances: dict[tuple[int, str, tuple[int, ...]], tuple[int, int]] = {}
    for cpu in affinity:
        for index in files.names(f"{_CPU}/cpu{cpu}/cache"):
            path = f"{_CPU}/cpu{cpu}/cache/{index}"
            level, size = files.number(f"{path}/level"), kibibytes(files.line(f"{path}/size"))
            if level and size:
                shared = cpu_list(files.line(f"{path}/shared_cpu_list")) or (cpu,)
                line_bytes = files.number(f"{path}/coherency_line_size") or 64
                kind = files.line(f"{path}/type").lower()
                instances[(level, kind, shared)] = (size, line_bytes)
    counts: Counter[Cache] = Counter()
    for (level, kind, shared), (size, line_bytes) in instances.items():
        for known in ("data", "instruction", "unified"):
            if kind == known:
                counts[Cache(level, known, size, line_bytes, len(shared), 1)] += 1
    ordered = sorted(counts, key=lambda cache: (cache.level, cache.kind, -cache.size_bytes))
    return tuple(
        Cache(c.level, c.kind, c.size_bytes, c.line_bytes, c.num_sharing, counts[c])
        for c in ordered
    )


def _huge_pages(files: HostFiles) -> HugePages:
    """Return the word in brackets of `always [madvise] never`."""
    line = files.line(f"{_THP}/enabled")
    for setting in HUGE_PAGE_SETTINGS:
        if f"[{setting}]" in line:
            return setting
    return "unknown"


def _numa_nodes(files: HostFiles) -> tuple[NumaNode, ...]:
    """Return the memory nodes; their meminfo lines read `Node 0 MemTotal:  123 kB`."""
    nodes = []
    for node_id in cpu_list(files.line(f"{_NODE}/online")):
        path = f"{_NODE}/node{node_id}"
        total = files.fields(f"{path}/meminfo").get(f"Node {node_id} MemTotal", "")
        cpus = cpu_list(files.line(f"{path}/cpulist"))
        nodes.append(NumaNode(node_id, cpus, kibibytes(total) or 0))
    return tuple(nodes)
