"""The probes measure something plausible, and refuse what they cannot measure."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tonnage import _native
from tonnage.core.errors import ProbeError
from tonnage.core.machine import Machine
from tonnage.machine import probe, report
from tonnage.machine.host import read_machine
from tonnage.machine.isa import ISAS

MIB = 1 << 20
MACHINE = read_machine()
HERE = [isa for isa in ISAS if ISAS.index(isa) <= ISAS.index(MACHINE.cpu_isa)]


@pytest.mark.parametrize("isa", HERE)
@pytest.mark.parametrize("threads", [1, 3])
def test_rates_are_positive_and_finite(isa: str, threads: int) -> None:
    for rate in (probe.int8_peak(isa, threads, 0.01), probe.f32_peak(isa, threads, 0.01)):
        assert rate.num_passes >= 3
        assert 0 < rate.median <= rate.best < 1e6


@pytest.mark.parametrize("isa", HERE)
def test_read_returns_a_time_for_every_pass(isa: str) -> None:
    for threads, num_bytes in ((1, 4096), (2, 1 * MIB), (3, 1 * MIB + 12345)):
        passes = _native.probe_read(isa, threads, num_bytes, 1e-9)
        assert len(passes) >= 3
        assert all(spent > 0 for spent in passes)


@pytest.mark.skipif(len(HERE) < 2, reason="this CPU has only the scalar instruction set")
def test_wider_instruction_sets_are_faster() -> None:
    best = {isa: max(probe.int8_peak(isa, 1, 0.05).best for _ in range(3)) for isa in HERE}
    assert best[HERE[-1]] > 2 * best["scalar"]


def test_native_refuses_bad_arguments() -> None:
    for isa, threads, num_bytes, seconds in (
        ("sse9", 1, MIB, 0.1), ("scalar", 0, MIB, 0.1), ("scalar", 5000, MIB, 0.1),
        ("scalar", 2, 4096, 0.1), ("scalar", 1, MIB, 0.0), ("scalar", 1, MIB, float("nan")),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"unknown|must"):
            _native.probe_read(isa, threads, num_bytes, seconds)


def test_a_mapping_that_fails_is_a_memory_error() -> None:
    with pytest.raises(MemoryError):
        _native.probe_read("scalar", 1, 1 << 60, 0.1)


def test_refused_threads_are_a_sentence_and_no_hang() -> None:
    code = """
import resource
from tonnage.core.errors import ProbeError
from tonnage.machine import probe
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (48 << 20),) * 2)
try:
    probe.int8_peak("scalar", 64, 0.01)
except ProbeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "The system refused to start 64 threads; use fewer.\n", done.stderr


def machine_with(*, available_bytes: int) -> Machine:
    return dataclasses.replace(
        MACHINE, memory_available_bytes=available_bytes, memory_limits=(), caches=()
    )


def test_buffer_takes_at_most_half_of_what_is_free() -> None:
    assert probe.buffer_bytes(machine_with(available_bytes=8 << 30)) == 512 * MIB
    assert probe.buffer_bytes(machine_with(available_bytes=256 * MIB)) == 128 * MIB
    with pytest.raises(ProbeError, match=r"buffer of 16\.0 MiB.*20\.0 MiB"):
        probe.buffer_bytes(machine_with(available_bytes=20 * MIB))


def test_bandwidth_is_measured() -> None:
    rate = probe.read_bandwidth(machine_with(available_bytes=64 * MIB), 1, 0.01)
    assert 0.05 < rate.median <= rate.best < 1e5


def test_bad_thread_counts_and_times_are_sentences() -> None:
    with pytest.raises(ProbeError, match="0 threads"):
        probe.measure_int8_peak(0)
    with pytest.raises(ProbeError, match=r"0\.0 s"):
        probe.measure_int8_peak(1, 0.0)


@pytest.mark.parametrize("size", [1, 4096, 4 * MIB, 4 * MIB + 1, 9 * MIB + 513])
def test_disk_read_reaches_the_end_of_the_file(tmp_path: Path, size: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * size)
    read = probe.measure_disk_read(path, seconds=60)
    assert read.num_bytes == size
    assert read.gb_per_s > 0


def test_disk_read_stops_at_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * (12 * MIB))
    num_bytes, _, _ = _native.probe_disk(str(path), 1, 60.0)
    assert num_bytes == 4 * MIB


def test_disk_read_refuses(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(ProbeError, match="is empty"):
        probe.measure_disk_read(tmp_path / "empty")
    for name in ("absent", ".", "/dev/zero"):
        with pytest.raises(ProbeError, match="is not a file"):
            probe.measure_disk_read(tmp_path / name)


def test_report_has_every_figure_with_its_unit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * MIB)
    collected = report.collect(str(path), seconds=0.01)
    assert json.loads(json.dumps(collected))["default_threads"] == MACHINE.default_threads
    text = report.render(collected)
    for part in ("instruction set", "L2 cache", "huge pages", "GB/s", "GOPS", "GFLOPS", "limit"):
        assert part in text or (part == "L2 cache" and not MACHINE.caches)
    starts = {len(line) - len(line.split("  ", 1)[1].lstrip()) for line in text.splitlines()}
    assert len(starts) == 1


def test_report_keeps_the_reason_of_a_failed_probe(tmp_path: Path) -> None:
    collected = report.collect(str(tmp_path / "absent"), seconds=0.01)
    assert "is not a file" in collected["disk_read"]["error"]
    collected["read_bandwidth"] = [{"threads": 1, "error": "no room"}]
    assert "no room" in report.render(collected)


@pytest.mark.parametrize(
    ("cores", "counts"), [(1, [1]), (3, [1, 2, 3]), (16, [1, 2, 4, 8, 16]), (12, [1, 2, 4, 8, 12])]
)
def test_thread_counts(cores: int, counts: list[int]) -> None:
    machine = dataclasses.replace(
        MACHINE, affinity=tuple(range(cores)), num_cores=cores, cpu_quota=None
    )
    assert report.thread_counts(machine) == counts
