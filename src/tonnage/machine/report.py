"""What `tonnage doctor` says: the machine as read, and its ceilings as measured."""

import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from tonnage.core.errors import ProbeError
from tonnage.core.machine import Machine
from tonnage.core.units import format_bytes
from tonnage.machine import probe
from tonnage.machine.host import read_machine


def collect(disk_file: str | None = None, seconds: float = 0.5) -> dict[str, Any]:
    """Return the report as JSON-ready values.

    Keys: `machine`, `default_threads`, `usable_memory_bytes`, `read_bandwidth` (a row per thread
    count, best and median), `int8_peak`, `f32_peak`, `disk_read`.

    disk_file: what to read from disk; the interpreter's own file without one. seconds: how long
    each probe runs. A probe that fails leaves its reason under `error` instead of its figures.
    Raises IsaError for a bad TONNAGE_ISA.
    """
    machine = read_machine()
    threads = machine.default_threads
    return {
        "machine": asdict(machine),
        "default_threads": threads,
        "usable_memory_bytes": machine.usable_memory_bytes,
        "read_bandwidth": [_bandwidth(machine, n, seconds) for n in thread_counts(machine)],
        "int8_peak": _rate("gops", threads, probe.int8_peak(machine.isa, threads, seconds)),
        "f32_peak": _rate("gflops", threads, probe.f32_peak(machine.isa, threads, seconds)),
        "disk_read": _disk(disk_file or os.path.realpath(sys.executable), 4 * seconds),
    }


def thread_counts(machine: Machine) -> list[int]:
    """Return 1..n for few threads n = default_threads; above 8, powers of two and n."""
    most = machine.default_threads
    if most <= 8:
        return list(range(1, most + 1))
    return [*(1 << i for i in range(most.bit_length()) if 1 << i < most), most]


def _rate(unit: str, threads: int, rate: probe.Rate) -> dict[str, Any]:
    return {"threads": threads, unit: rate.best, f"{unit}_median": rate.median}


def _bandwidth(machine: Machine, threads: int, seconds: float) -> dict[str, Any]:
    try:
        rate = probe.read_bandwidth(machine, threads, seconds)
    except ProbeError as error:
        return {"threads": threads, "error": str(error)}
    return _rate("gb_s", threads, rate)


def _disk(path: str, seconds: float) -> dict[str, Any]:
    try:
        read = probe.measure_disk_read(path, seconds)
    except ProbeError as error:
        return {"file": path, "error": str(error)}
    return {
        "file": path,
        "gb_s": read.gb_per_s,
        "num_bytes": read.num_bytes,
        "direct": read.direct,
    }


def render(report: dict[str, Any]) -> str:
    """Return `report` (of `collect`) as aligned lines, each figure with its unit."""
    rows = [*_cpu_rows(report), *_memory_rows(report), *_measured_rows(report)]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}".rstrip() for name, value in rows) + "\n"


def _cpu_rows(report: dict[str, Any]) -> Iterator[tuple[str, str]]:
    machine = report["machine"]
    yield "CPU", machine["cpu_model"]
    isa, best = machine["isa"], machine["cpu_isa"]
    yield "instruction set", isa if isa == best else f"{isa} (forced; the CPU has {best})"
    usable = len(machine["affinity"])
    yield "cores", f"{machine['num_cores']} physical, {usable} of {machine['num_cpus']} CPUs usable"
    quota = machine["cpu_quota"]
    yield "CPU quota", "none" if quota is None else f"{quota:g} CPUs"
    yield "threads", f"{report['default_threads']} by default"
    for cache in machine["caches"]:
        letter = {"data": "d", "instruction": "i", "unified": ""}[cache["kind"]]
        shared = f", shared by {cache['num_sharing']} CPUs" if cache["num_sharing"] > 1 else ""
        size = format_bytes(cache["size_bytes"])
        yield f"L{cache['level']}{letter} cache", f"{cache['count']} × {size}{shared}"


def _memory_rows(report: dict[str, Any]) -> Iterator[tuple[str, str]]:
    machine = report["machine"]
    total, free = machine["memory_total_bytes"], machine["memory_available_bytes"]
    yield "memory", f"{format_bytes(total)}, {format_bytes(free)} available"
    for node in machine["numa_nodes"] if len(machine["numa_nodes"]) > 1 else ():
        size = format_bytes(node["memory_bytes"])
        yield f"NUMA node {node['node_id']}", f"{size}, {len(node['cpus'])} CPUs"
    for limit in machine["memory_limits"]:
        limit_bytes, used = limit["limit_bytes"], limit["used_bytes"]
        yield "limit", f"{format_bytes(limit_bytes)}, {format_bytes(used)} used ({limit['source']})"
    if not machine["memory_limits"]:
        yield "limit", "none (cgroups, RLIMIT_AS, RLIMIT_DATA)"
    yield "usable memory", format_bytes(report["usable_memory_bytes"])
    size = format_bytes(machine["huge_page_bytes"])
    yield "huge pages", f"{machine['huge_pages']}, {size} each"


def _measured_rows(report: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for row in report["read_bandwidth"]:
        value = row.get("error") or f"{row['gb_s']:.1f} GB/s (median {row['gb_s_median']:.1f})"
        yield f"memory read, {_threads(row)}", value
    int8, f32 = report["int8_peak"], report["f32_peak"]
    yield f"int8 peak, {_threads(int8)}", f"{int8['gops']:,.0f} GOPS (multiply-add = 2)"
    yield f"f32 peak, {_threads(f32)}", f"{f32['gflops']:,.0f} GFLOPS (multiply-add = 2)"
    disk = report["disk_read"]
    if "error" in disk:
        yield "disk read", disk["error"]
    else:
        way = "past the page cache" if disk["direct"] else "page cache dropped first"
        size = format_bytes(disk["num_bytes"])
        yield "disk read", f"{disk['gb_s']:.2f} GB/s ({size} of {disk['file']}, {way})"


def _threads(row: dict[str, Any]) -> str:
    return f"{row['threads']} thread{'s' if row['threads'] > 1 else ''}"
