"""Reading a machine from fake /proc and /sys trees."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tonnage.core.errors import IsaError, MachineError
from tonnage.core.machine import Machine, MemoryLimit
from tonnage.machine.host import read_machine
from tonnage.machine.host_files import HostFiles, cpu_list, kibibytes
from tonnage.machine.isa import ISAS
from tonnage.machine.limits import cpu_quota, memory_limits, read_limits

GIB = 1 << 30
MIB = 1 << 20
AVX2 = "fpu sse2 avx avx2 fma f16c bmi2"
# As of Cascade Lake, which has no avx512vbmi.
AVX512 = AVX2 + " avx512f avx512bw avx512cd avx512vl avx512dq avx512_vnni"
needs_avx512_kernels = pytest.mark.skipif(
    "avx512" not in ISAS, reason="this build has no AVX-512 kernels: choosing them was not checked"
)


def write(root: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root)


def proc(flags: str = AVX512, allowed: str = "0-7") -> dict[str, str]:
    return {
        "/proc/cpuinfo": f"processor\t: 0\nmodel name\t: Fake 9000\nflags\t\t: {flags}\n\n"
        "processor\t: 1\nmodel name\t: Other\nflags\t\t: fpu\n",
        "/proc/self/status": f"Name:\tx\nVmSize:\t  2048 kB\nVmData:\t 1024 kB\n"
        f"Cpus_allowed_list:\t{allowed}\n",
        "/proc/meminfo": "MemTotal: 16777216 kB\nMemFree: 1 kB\nMemAvailable: 8388608 kB\n",
        "/sys/devices/system/cpu/online": "0-7\n",
        "/sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
        "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size": "2097152\n",
    }


def smt_cpus() -> dict[str, str]:
    """Eight CPUs: four cores of two threads, one L3 for each half."""
    files = {}
    for cpu in range(8):
        base = f"/sys/devices/system/cpu/cpu{cpu}"
        sibling = f"{cpu % 4},{cpu % 4 + 4}\n"
        files[f"{base}/topology/core_cpus_list"] = sibling
        shared_l3 = "0-1,4-5\n" if cpu % 4 < 2 else "2-3,6-7\n"
        for index, (level, kind, size, shared) in enumerate(
            [
                (1, "Data", "48K", sibling),
                (1, "Instruction", "32K", sibling),
                (2, "Unified", "1024K", sibling),
                (3, "Unified", "32M", shared_l3),
            ]
        ):
            cache = f"{base}/cache/index{index}"
            files[f"{cache}/level"] = f"{level}\n"
            files[f"{cache}/type"] = f"{kind}\n"
            files[f"{cache}/size"] = f"{size}\n"
            files[f"{cache}/shared_cpu_list"] = shared
            files[f"{cache}/coherency_line_size"] = "64\n"
    return files


def test_reads_cores_caches_and_memory(tmp_path: Path) -> None:
    machine = read_machine(write(tmp_path, {**proc(), **smt_cpus()}), {})
    assert machine.cpu_model == "Fake 9000"
    assert machine.affinity == tuple(range(8))
    assert (machine.num_cpus, machine.num_cores, machine.default_threads) == (8, 4, 4)
    assert [(c.level, c.kind, c.count, c.num_sharing) for c in machine.caches] == [
        (1, "data", 4, 2),
        (1, "instruction", 4, 2),
        (2, "unified", 4, 2),
        (3, "unified", 2, 4),
    ]
    assert machine.last_level_cache_bytes == 64 * MIB
    assert machine.memory_total_bytes == 16 * GIB
    assert machine.usable_memory_bytes == machine.memory_available_bytes == 8 * GIB
    assert machine.memory_limits == ()
    assert (machine.huge_pages, machine.huge_page_bytes) == ("madvise", 2 * MIB)


def test_affinity_limits_cores_and_caches(tmp_path: Path) -> None:
    machine = read_machine(write(tmp_path, {**proc(allowed="0,4-5"), **smt_cpus()}), {})
    assert machine.num_cores == 2
    assert machine.default_threads == 2
    assert machine.last_level_cache_bytes == 32 * MIB


def test_unknown_topology_counts_each_cpu_as_a_core(tmp_path: Path) -> None:
    machine = read_machine(write(tmp_path, proc(allowed="0-2")), {})
    assert machine.num_cores == 3
    assert machine.caches == ()
    assert machine.last_level_cache_bytes == 0


def test_empty_tree_still_gives_a_machine(tmp_path: Path) -> None:
    machine = read_machine(str(tmp_path), {})
    assert machine.default_threads >= 1
    assert (machine.isa, machine.cpu_model, machine.huge_pages) == ("scalar", "unknown", "unknown")


def test_numa_nodes(tmp_path: Path) -> None:
    node = "/sys/devices/system/node"
    files = {
        f"{node}/online": "0-1\n",
        f"{node}/node0/cpulist": "0-3\n",
        f"{node}/node0/meminfo": "Node 0 MemTotal:  1048576 kB\nNode 0 MemFree: 1 kB\n",
        f"{node}/node1/cpulist": "4-7\n",
        f"{node}/node1/meminfo": "Node 1 MemTotal:  2097152 kB\n",
    }
    nodes = read_machine(write(tmp_path, {**proc(), **files}), {}).numa_nodes
    assert [(n.node_id, n.cpus, n.memory_bytes) for n in nodes] == [
        (0, (0, 1, 2, 3), GIB),
        (1, (4, 5, 6, 7), 2 * GIB),
    ]


@needs_avx512_kernels
@pytest.mark.parametrize(
    ("flags", "best"),
    [
        (AVX512, "avx512"),
        (AVX512 + " avx512ifma avx512vbmi avx512_vbmi2", "avx512"),
        (AVX512.replace("avx512_vnni", ""), "avx2"),
        (AVX2, "avx2"),
        (AVX2.replace("fma", ""), "scalar"),
        ("", "scalar"),
    ],
)
def test_best_isa(tmp_path: Path, flags: str, best: str) -> None:
    machine = read_machine(write(tmp_path, proc(flags)), {})
    assert machine.isa == machine.cpu_isa == best


@needs_avx512_kernels
def test_forced_isa(tmp_path: Path) -> None:
    root = write(tmp_path, proc(AVX2))
    machine = read_machine(root, {"TONNAGE_ISA": "scalar"})
    assert (machine.isa, machine.cpu_isa) == ("scalar", "avx2")
    assert read_machine(root, {"TONNAGE_ISA": ""}).isa == "avx2"
    with pytest.raises(IsaError, match=r"needs 5 CPU features.*avx512_vnni.*TONNAGE_ISA=avx2"):
        read_machine(root, {"TONNAGE_ISA": "avx512"})
    with pytest.raises(IsaError, match="sse9 is unknown; use one of scalar, avx2, avx512"):
        read_machine(root, {"TONNAGE_ISA": "sse9"})


V2_MOUNT = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n"
V2 = "/sys/fs/cgroup"


def test_nested_cgroup_v2_tightest_wins(tmp_path: Path) -> None:
    files = {
        "/proc/self/mountinfo": V2_MOUNT,
        "/proc/self/cgroup": "0::/a/b\n",
        f"{V2}/a/memory.max": f"{2 * GIB}\n",
        f"{V2}/a/memory.current": f"{1500 * MIB}\n",
        f"{V2}/a/memory.stat": f"anon 5\nfile {500 * MIB}\n",
        f"{V2}/a/cpu.max": "150000 100000\n",
        f"{V2}/a/b/memory.max": "max\n",
        f"{V2}/a/b/memory.high": f"{3 * GIB}\n",
        f"{V2}/a/b/memory.current": f"{GIB}\n",
        f"{V2}/a/b/cpu.max": "max 100000\n",
    }
    machine = read_machine(write(tmp_path, {**proc(), **smt_cpus(), **files}), {})
    assert machine.memory_limits == (
        MemoryLimit("cgroup v2 memory.max of /a", 2 * GIB, 1000 * MIB),
        MemoryLimit("cgroup v2 memory.high of /a/b", 3 * GIB, GIB),
    )
    assert machine.usable_memory_bytes == 1048 * MIB
    assert machine.cpu_quota == 1.5
    assert machine.default_threads == 2


def test_cgroup_v1_below_a_container_mount(tmp_path: Path) -> None:
    memory, cpu = "/sys/fs/cgroup/memory", "/sys/fs/cgroup/cpu,cpuacct"
    files = {
        "/proc/self/mountinfo": f"35 31 0:32 /docker/x {memory} rw - cgroup cgroup rw,memory\n"
        f"36 31 0:33 /docker/x {cpu} rw - cgroup cgroup rw,cpu,cpuacct\n",
        "/proc/self/cgroup": "4:memory:/docker/x/inner\n2:cpu,cpuacct:/docker/x\n",
        f"{memory}/memory.limit_in_bytes": "9223372036854771712\n",
        f"{memory}/inner/memory.limit_in_bytes": f"{GIB}\n",
        f"{memory}/inner/memory.usage_in_bytes": f"{300 * MIB}\n",
        f"{memory}/inner/memory.stat": f"total_cache {400 * MIB}\n",
        f"{cpu}/cpu.cfs_quota_us": "50000\n",
        f"{cpu}/cpu.cfs_period_us": "100000\n",
    }
    machine = read_machine(write(tmp_path, {**proc(), **files}), {})
    assert machine.memory_limits == (
        MemoryLimit("cgroup v1 memory.limit_in_bytes of /inner", GIB, 0),
    )
    assert machine.cpu_quota == 0.5
    assert machine.default_threads == 1


# Of 900 MiB of page cache 700 are in tmpfs, mapped or not on their way to the disk.
FILES_V1 = {"cache": 900, "shmem": 600, "mapped_file": 60, "dirty": 40, "writeback": 20}
FILES_V2 = {"file": 900, "shmem": 600, "file_mapped": 60, "file_dirty": 40, "file_writeback": 20}
LISTS = {"active_anon": 600, "active_file": 190, "inactive_file": 100, "unevictable": 50}


def stat_text(fields: dict[str, int], prefix: str = "") -> str:
    """Return a memory.stat; with a prefix, as version 1 has it: what is below is counted apart."""
    lines = [f"{prefix}{name} {size * MIB}" for name, size in fields.items()]
    if prefix:
        lines = [f"{name} 999999999" for name in fields] + lines
    return "\n".join([*lines, ""])


def test_what_the_kernel_takes_back_of_a_v1_group_counts_as_free(tmp_path: Path) -> None:
    memory = "/sys/fs/cgroup/memory"
    files = {
        "/proc/self/mountinfo": f"35 31 0:32 / {memory} rw - cgroup cgroup rw,memory\n",
        "/proc/self/cgroup": "4:memory:/a\n",
        f"{memory}/a/memory.limit_in_bytes": f"{2 * GIB}\n",
        f"{memory}/a/memory.usage_in_bytes": f"{1500 * MIB}\n",
        f"{memory}/a/memory.stat": stat_text({**FILES_V1, **LISTS}, "total_"),
    }
    host = HostFiles(write(tmp_path, {**proc(), **files}))
    name = "cgroup v1 memory.limit_in_bytes of /a"
    assert memory_limits(host) == (MemoryLimit(name, 2 * GIB, 1300 * MIB),)
    limits = read_limits(host)
    assert limits.by_source == {name: 2 * GIB}
    assert limits.free_bytes == 748 * MIB
    assert limits.process_bytes > limits.free_bytes


def test_what_the_kernel_takes_back_of_a_v2_group_counts_as_free(tmp_path: Path) -> None:
    fields = {**FILES_V2, **LISTS, "slab_reclaimable": 40, "slab_unreclaimable": 70}
    files = {
        "/proc/self/mountinfo": V2_MOUNT,
        "/proc/self/cgroup": "0::/a\n",
        f"{V2}/a/memory.max": f"{2 * GIB}\n",
        f"{V2}/a/memory.high": f"{GIB}\n",
        f"{V2}/a/memory.current": f"{1500 * MIB}\n",
        f"{V2}/a/memory.stat": stat_text(fields),
    }
    host = HostFiles(write(tmp_path, {**proc(), **files}))
    assert {one.used_bytes for one in memory_limits(host)} == {1280 * MIB}
    # Less than nothing: more is held than the lower of them allows.
    assert read_limits(host).free_bytes == GIB - 1280 * MIB
    stat = stat_text({**fields, "file_mapped": 500})
    host = HostFiles(write(tmp_path, {**proc(), f"{V2}/a/memory.stat": stat}))
    assert {one.used_bytes for one in memory_limits(host)} == {1480 * MIB}


def test_pages_follow_cgroups_alone(tmp_path: Path) -> None:
    """Giving pages up changes nothing about what is mapped, which resource limits count."""
    files = {
        "/proc/self/limits": "Limit                     Soft Limit           Hard Limit    Units\n"
        f"Max data size             {MIB}           unlimited            bytes\n"
    }
    limits = read_limits(HostFiles(write(tmp_path, {**proc(), **files})))
    assert limits.by_source == {}
    assert limits.free_bytes > 1 << 50


def test_cgroup_path_outside_of_the_mount_uses_the_mount(tmp_path: Path) -> None:
    for path in ("/../../host", "/elsewhere/deep"):
        files = {
            "/proc/self/mountinfo": V2_MOUNT.replace(" / ", " /pod ", 1),
            "/proc/self/cgroup": f"0::{path}\n",
            f"{V2}/memory.max": f"{GIB}\n",
        }
        limits = memory_limits(HostFiles(write(tmp_path, files)))
        assert [limit.source for limit in limits] == ["cgroup v2 memory.max of /"]


def test_unlimited_v1_quota_is_none(tmp_path: Path) -> None:
    cpu = "/sys/fs/cgroup/cpu"
    files = {
        "/proc/self/mountinfo": f"36 31 0:33 / {cpu} rw - cgroup cgroup rw,cpu\n",
        "/proc/self/cgroup": "2:cpu:/\n",
        f"{cpu}/cpu.cfs_quota_us": "-1\n",
        f"{cpu}/cpu.cfs_period_us": "100000\n",
    }
    assert cpu_quota(HostFiles(write(tmp_path, files))) is None


def test_resource_limits(tmp_path: Path) -> None:
    files = {
        "/proc/self/limits": "Limit                     Soft Limit           Hard Limit    Units\n"
        f"Max data size             {GIB}           unlimited            bytes\n"
        f"Max address space         unlimited       {GIB}                bytes\n"
    }
    limits = memory_limits(HostFiles(write(tmp_path, {**proc(), **files})))
    assert limits == (MemoryLimit("RLIMIT_DATA", GIB, MIB),)


def test_a_limit_already_exceeded_leaves_nothing() -> None:
    assert MemoryLimit("x", 5, 9).free_bytes == 0


def test_json_round_trip(tmp_path: Path) -> None:
    machine = read_machine(write(tmp_path, {**proc(), **smt_cpus()}), {})
    assert Machine.from_json(machine.to_json()) == machine
    here = read_machine()
    assert Machine.from_json(here.to_json()) == here


def test_json_of_something_else_is_refused(tmp_path: Path) -> None:
    good = json.loads(read_machine(str(tmp_path), {}).to_json())
    bad = [
        "", "3", "[]", "{}", "[" * 100_000,
        json.dumps({**good, "extra": 1}),
        json.dumps({**good, "isa": 3}),
        json.dumps({**good, "affinity": 3}),
        json.dumps({**good, "caches": [{"level": 1}]}),
        json.dumps({**good, "num_cores": "2"}),
        json.dumps({**good, "memory_total_bytes": -1}),
    ]  # fmt: skip
    for text in bad:
        with pytest.raises(MachineError, match=r"tonnage doctor --json"):
            Machine.from_json(text)


@given(st.sets(st.integers(0, 300), max_size=40))
def test_cpu_list_reads_back_what_the_kernel_writes(cpus: set[int]) -> None:
    assert cpu_list(",".join(map(str, sorted(cpus)))) == tuple(sorted(cpus))
    if cpus:
        low, high = min(cpus), max(cpus)
        assert cpu_list(f"{low}-{high}\n") == tuple(range(low, high + 1))


@given(st.text())
def test_parsers_survive_any_text(text: str) -> None:
    assert all(cpu >= 0 for cpu in cpu_list(text))
    size = kibibytes(text)
    assert size is None or size >= 0


def test_sizes_as_the_kernel_writes_them() -> None:
    assert kibibytes("123 kB") == 123 << 10
    assert kibibytes("48K") == 48 << 10
    assert kibibytes("32M") == 32 << 20
    assert kibibytes("") is None
    assert kibibytes("9" * 5000) is None


@given(st.binary(max_size=300))
def test_any_bytes_in_any_file_give_a_machine(tmp_path_factory, data: bytes) -> None:
    root = tmp_path_factory.mktemp("tree")
    write(root, {**proc(), **smt_cpus()})
    for path in root.rglob("*"):
        if path.is_file() and path.name != "status":
            path.write_bytes(data)
    machine = read_machine(str(root), {})
    assert machine.default_threads >= 1
    assert machine.usable_memory_bytes >= 0
    assert Machine.from_json(machine.to_json()) == machine
