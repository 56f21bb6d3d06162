"""What the kernel counts of this process and its cgroups.

Sources: proc_pid_schedstat(5), proc_pid_io(5), proc_stat(5), getrusage(2), and the kernel's
documents on cgroup v1 (cpu) and v2.
"""

import os
import resource
import time

from tonnage.core.slowdown import Counters
from tonnage.machine.host_files import HostFiles, whole_number
from tonnage.machine.limits import cpu_groups

_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


class CounterFiles:
    """Where this process's counters are; found once, since looking for cgroups takes longest."""

    def __init__(self, root: str = "/") -> None:
        """`root` stands for `/`."""
        self._files = HostFiles(root)
        self._groups = [
            path for path in cpu_groups(self._files) if self._files.text(f"{path}/cpu.stat")
        ]

    def read(self) -> Counters:
        """Return all counters now; 0 for what this system does not count."""
        files = self._files
        usage = resource.getrusage(resource.RUSAGE_SELF)
        io = files.fields("/proc/self/io")
        cpu = files.line("/proc/stat").split()
        return Counters(
            clock_ns=time.monotonic_ns(),
            delay_ns=delay_ns(files),
            throttled_ns=max(map(self._throttled_ns, self._groups), default=0),
            num_throttled=sum(map(self._num_throttled, self._groups)),
            stolen_ns=_TICK_NS * (whole_number(cpu[8]) or 0) if len(cpu) > 8 else 0,
            major_faults=usage.ru_majflt,
            read_bytes=whole_number(io.get("read_bytes", "")) or 0,
        )

    def _num_throttled(self, path: str) -> int:
        stat = self._files.fields(f"{path}/cpu.stat", " ")
        return whole_number(stat.get("nr_throttled", "")) or 0

    def _throttled_ns(self, path: str) -> int:
        stat = self._files.fields(f"{path}/cpu.stat", " ")
        if "throttled_usec" in stat:
            return 1000 * (whole_number(stat["throttled_usec"]) or 0)
        return whole_number(stat.get("throttled_time", "")) or 0


def delay_ns(files: HostFiles | None = None) -> int:
    """Return the nanoseconds in which this process's threads were ready and had no CPU."""
    files = files or HostFiles()
    total = 0
    for task in files.names("/proc/self/task"):
        fields = files.line(f"/proc/self/task/{task}/schedstat").split()
        total += (whole_number(fields[1]) or 0) if len(fields) > 1 else 0
    return total
