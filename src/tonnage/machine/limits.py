"""Limits on memory and CPU time: cgroups of both versions, nested, and resource limits.

Sources: cgroups(7), the kernel's cgroup-v1/memory and cgroup-v2 documents, proc_pid_limits(5).
"""

from collections.abc import Iterator, Mapping

from tonnage.core.machine import MachineLimits, MemoryLimit
from tonnage.core.record import record
from tonnage.machine.host_files import HostFiles, kibibytes, whole_number
from tonnage.machine.memory_use import rss_bytes

# Version 1 says "no limit" by a number near 2**63, rounded to a page.
_NO_LIMIT_BYTES = 1 << 60
# Fields of memory.stat, per version: the page cache, and what of it is not free for the taking.
# Its lists (active_file, inactive_file) would miss what each CPU has yet to put on them, which came
# to 2 MiB while page files were written.
_CACHE = {1: "total_cache", 2: "file"}
_KEPT = {
    1: ("total_shmem", "total_mapped_file", "total_dirty"),
    2: ("shmem", "file_mapped", "file_dirty"),
}


@record
class _Group:
    """A cgroup directory on the way from the process's own group up to the mount point."""

    version: int
    name: str
    path: str


def memory_limits(files: HostFiles) -> tuple[MemoryLimit, ...]:
    """Return every memory limit on this process, tightest (least free) first."""
    found: list[MemoryLimit] = []
    for group in _groups(files, "memory"):
        found.extend(_memory_of(files, group))
    found.extend(_resource_limits(files))
    return tuple(sorted(found, key=lambda limit: (limit.free_bytes, limit.source)))


def read_limits(files: HostFiles | None = None) -> MachineLimits:
    """Return what cgroups allow this process now.

    Resource limits are left out: they count what is mapped, and pages given up stay mapped.
    """
    files = files or HostFiles()
    found = [limit for group in _groups(files, "memory") for limit in _memory_of(files, group)]
    free = min((one.limit_bytes - one.used_bytes for one in found), default=_NO_LIMIT_BYTES)
    ceiling = min((one.limit_bytes for one in found), default=_NO_LIMIT_BYTES)
    by_source = {one.source: one.limit_bytes for one in found}
    return MachineLimits(by_source, free, min(ceiling, rss_bytes() + free))


def cpu_quota(files: HostFiles) -> float | None:
    """Return the CPUs' worth of time that the tightest cgroup grants, or None without a quota."""
    quotas = [quota for group in _groups(files, "cpu") if (quota := _quota_of(files, group))]
    return min(quotas, default=None)


def cpu_groups(files: HostFiles) -> list[str]:
    """Return the folders of all cgroups, of both versions, that can hold this process back."""
    return [group.path for group in _groups(files, "cpu")]


def _groups(files: HostFiles, controller: str) -> Iterator[_Group]:
    """Yield the directories of `controller`, each group before its parent, of both versions."""
    own = _own_groups(files)
    for line in (files.text("/proc/self/mountinfo") or "").splitlines():
        left, _, right = line.partition(" - ")
        mount, filesystem = left.split(), right.split()
        if len(mount) < 5 or len(filesystem) < 3:
            continue
        if filesystem[0] == "cgroup2":
            version, path = 2, own.get("")
        elif filesystem[0] == "cgroup" and controller in filesystem[2].split(","):
            version, path = 1, own.get(controller)
        else:
            continue
        inside = _below(path or "/", _unescape(mount[3]))
        yield from _walk_up(version, _unescape(mount[4]), inside)


def _own_groups(files: HostFiles) -> dict[str, str]:
    """Return controller -> group path; the unified hierarchy of version 2 is the empty name."""
    own: dict[str, str] = {}
    for line in (files.text("/proc/self/cgroup") or "").splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3:
            own.update({name: parts[2] for name in parts[1].split(",")})
    return own


def _below(path: str, mount_root: str) -> str:
    """Return `path` relative to what is mounted; empty when it lies outside of that."""
    if ".." in path.split("/"):
        return ""
    root = mount_root.rstrip("/")
    if path == root or path.startswith(root + "/"):
        return path[len(root) :].strip("/")
    return ""


def _walk_up(version: int, mount_point: str, inside: str) -> Iterator[_Group]:
    parts = inside.split("/") if inside else []
    for depth in range(len(parts), -1, -1):
        name = "/" + "/".join(parts[:depth])
        yield _Group(version, name, mount_point.rstrip("/") + name.rstrip("/"))


def _unescape(text: str) -> str:
    """Undo the octal escapes of mountinfo."""
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text


def _memory_of(files: HostFiles, group: _Group) -> Iterator[MemoryLimit]:
    if group.version == 1:
        names, current = "limit_in_bytes", "usage_in_bytes"
    else:
        names, current = "max high", "current"
    for name in names.split():
        limit = files.number(f"{group.path}/memory.{name}")
        if limit is None or limit >= _NO_LIMIT_BYTES:
            continue
        # In this order, so that a file that is being read counts as used rather than as free.
        reclaimable = _reclaimable_bytes(
            group.version, files.fields(f"{group.path}/memory.stat", " ")
        )
        used = files.number(f"{group.path}/memory.{current}") or 0
        source = f"cgroup v{group.version} memory.{name} of {group.name}"
        yield MemoryLimit(source, limit, max(0, used - reclaimable))


def _reclaimable_bytes(version: int, stat: Mapping[str, str]) -> int:
    """Return what the kernel takes back from a group before it kills, at little cost.

    That is pages of files, also those in active use. Not those of tmpfs, which have no other place;
    nor those that are mapped (the code that runs here, a model somebody maps: each would be read
    again and again); nor those that nobody writes to the disk yet (for what is on its way there
    reclaim waits, or comes again). Of the slab memory that version 2 calls reclaimable half, as in
    the kernel's own MemAvailable (si_mem_available in mm/show_mem.c): names and inodes of open
    files stay.
    """
    kept = sum(_stated(stat, name) for name in _KEPT[version])
    slab = _stated(stat, "slab_reclaimable") // 2 if version == 2 else 0
    return max(0, _stated(stat, _CACHE[version]) - kept) + slab


def _stated(stat: Mapping[str, str], name: str) -> int:
    return whole_number(stat.get(name, "")) or 0


def _quota_of(files: HostFiles, group: _Group) -> float | None:
    if group.version == 2:
        quota, _, period = files.line(f"{group.path}/cpu.max").partition(" ")
    else:
        quota = files.line(f"{group.path}/cpu.cfs_quota_us")
        period = files.line(f"{group.path}/cpu.cfs_period_us")
    quota_us, period_us = whole_number(quota), whole_number(period)
    return quota_us / period_us if quota_us and period_us else None


def _resource_limits(files: HostFiles) -> Iterator[MemoryLimit]:
    status = files.fields("/proc/self/status")
    for line in (files.text("/proc/self/limits") or "").splitlines():
        for title, source, field in (
            ("Max address space", "RLIMIT_AS", "VmSize"),
            ("Max data size", "RLIMIT_DATA", "VmData"),
        ):
            if not line.startswith(title):
                continue
            soft = whole_number((line[len(title) :].split() or [""])[0])
            if soft is not None:
                yield MemoryLimit(source, soft, kibibytes(status.get(field, "")) or 0)
