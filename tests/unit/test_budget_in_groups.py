"""The budget that nobody stated, in memory groups of made-up accounts.

The kernel charges a page of a file to the group that touched it first. So the libraries of a
process may be on its own group's account, on another's, or half and half. What a process may come
to is derived here from what the neighbours hold, not from the code's own sums.
"""

import itertools
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tonnage.core.footprint import INTERPRETER_BYTES
from tonnage.machine.host import read_machine
from tonnage.planner.search.budget import RESERVE_BYTES, choose_budget

MIB = 1 << 20
GIB = 1 << 30
# A process before a model is opened: memory of its own, and pages of libraries.
OWN, LIBRARIES = 14 * MIB, 12 * MIB
PLACES = {"inside": LIBRARIES, "outside": 0, "shared": LIBRARIES // 2}


@dataclass(frozen=True)
class Group:
    """A group's limit and account: what neighbours hold, pages of files that can be dropped."""

    limit: int
    charged_libraries: int
    neighbours: int = 0
    cache: int = 0

    @property
    def used(self) -> int:
        return OWN + self.charged_libraries + self.neighbours + self.cache

    def files(self, version: int, path: str) -> dict[str, str]:
        cached = self.charged_libraries + self.cache
        if version == 1:
            stat = f"total_cache {cached}\ntotal_mapped_file {self.charged_libraries}\n"
            names = "limit_in_bytes", "usage_in_bytes"
        else:
            stat = f"file {cached}\nfile_mapped {self.charged_libraries}\n"
            names = "max", "current"
        sizes = (self.limit, self.used)
        found = {f"{path}/memory.{n}": f"{v}\n" for n, v in zip(names, sizes, strict=True)}
        return {**found, f"{path}/memory.stat": stat}


MOUNTS = {
    1: ("35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n", "4:memory:/pod/a\n"),
    2: ("30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "0::/pod/a\n"),
}
FOLDERS = {1: "/sys/fs/cgroup/memory/pod", 2: "/sys/fs/cgroup/pod"}
SITUATIONS = [
    (version, place, limit, neighbours, cache, parent)
    for version, place in itertools.product((1, 2), PLACES)
    for limit, neighbours, cache, parent in (
        (200 * MIB, 0, 0, None),
        (512 * MIB, 0, 0, None),
        (200 * MIB, 0, 150 * MIB, None),
        (512 * MIB, 100 * MIB, 0, None),
        (512 * MIB, 0, 0, 256 * MIB),
        (200 * MIB, 50 * MIB, 20 * MIB, 300 * MIB),
        (20 * MIB, 0, 0, None),
    )
]


def machine_of(root: Path, version: int, groups: dict[str, Group], available: int = 64 * GIB):
    """Return what is read of a box of 64 GiB with these groups."""
    mounts, own = MOUNTS[version]
    files = {
        "/proc/self/mountinfo": mounts,
        "/proc/self/cgroup": own,
        "/proc/cpuinfo": "processor\t: 0\nflags\t\t: fpu\n",
        "/proc/meminfo": f"MemTotal: {64 << 20} kB\nMemAvailable: {available >> 10} kB\n",
    }
    for path, group in groups.items():
        files |= group.files(version, path)
    for name, text in files.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return read_machine(str(root), {})


def test_there_are_forty_situations() -> None:
    assert len(SITUATIONS) >= 40


@pytest.mark.parametrize("situation", SITUATIONS)
def test_the_budget_is_what_neighbours_leave_and_no_limit_is_exceeded(tmp_path, situation) -> None:
    version, place, limit, neighbours, cache, parent = situation
    group = Group(limit, PLACES[place], neighbours, cache)
    folder = FOLDERS[version]
    groups = {f"{folder}/a": group}
    if parent is not None:
        groups[folder] = replace(group, limit=parent)
    machine = machine_of(tmp_path, version, groups)
    tightest = min(limit, parent or limit)
    left = tightest - neighbours
    for held in (OWN + LIBRARIES, INTERPRETER_BYTES):  # an open engine's, and the command `plan`
        budget = choose_budget(machine, None, held)
        assert budget.num_bytes <= tightest
        # Pages of libraries are in the plan wherever they are charged, so nothing below is lost.
        assert budget.num_bytes >= min(left, held + left - OWN - LIBRARIES)
        assert "memory." in budget.origin


@pytest.mark.parametrize("version", [1, 2])
def test_without_a_limit_the_machine_counts_less_the_reserve(tmp_path, version) -> None:
    group = Group(1 << 62, LIBRARIES)
    for available in (GIB, 64 * GIB):
        groups = {f"{FOLDERS[version]}/a": group}
        machine = machine_of(tmp_path / str(available), version, groups, available)
        budget = choose_budget(machine, None, OWN + LIBRARIES)
        most = min(available + OWN + LIBRARIES, 64 * GIB)
        assert budget.num_bytes == most - RESERVE_BYTES
