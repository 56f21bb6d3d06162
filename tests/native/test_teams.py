"""Threads and memory of the native core: what is opened is given back, callers never collide."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tonnage._native import (
    Arena,
    Executor,
    InputError,
    Program,
    best_isa,
    has_isa,
    probe_disk,
    probe_f32,
    probe_int8,
    probe_read,
    scan_strings,
)
from tonnage.machine.isa import ISAS


def resident_bytes() -> int:
    """Return what the process holds in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def num_threads() -> int:
    """Return the threads of this process."""
    return len(os.listdir("/proc/self/task"))


def test_fifty_cycles_give_memory_and_threads_back() -> None:
    size = 8 << 20
    before_threads = num_threads()
    held = []
    for _ in range(50):
        arena = Arena(size, huge_pages=False)
        arena.write(0, b"\1" * size)
        team = Executor(best_isa(), 4)
        team.run(Program(arena, 1, [(1, 0)], 1), [0], [([[0]], 1, 0)], [])
        del arena, team
        held.append(resident_bytes())
    assert num_threads() == before_threads
    # AddressSanitizer keeps what is freed for a while.
    assert held[-1] - held[0] < size or "ASAN_OPTIONS" in os.environ


def test_a_program_keeps_its_arena() -> None:
    arena = Arena(1 << 16, huge_pages=False)
    program = Program(arena, 1, [(1, 0)], 4)
    program.rope_table(frequencies=0, pairs=16, table=1024)
    del arena
    Executor(best_isa(), 2).run(program, [0] * 4, [([[0]], 4, 0)], [])


def test_teams_of_several_threads_at_once() -> None:
    results: list[bytes] = []

    def work() -> None:
        arena = Arena(1 << 16, huge_pages=False)
        program = Program(arena, 1, [(2, 0)], 64)
        program.rope_table(frequencies=0, pairs=16, table=1024)
        arena.write(0, np.linspace(0.1, 1, 16, dtype=np.float32).tobytes())
        team = Executor(best_isa(), 3)
        for _ in range(50):
            team.run(program, [0] * 64, [([[0, 1]], 64, 3)], [])
        results.append(arena.read(1024, 64 * 2 * 16 * 4))

    callers = [threading.Thread(target=work) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(results) == 4
    assert len(set(results)) == 1


def test_more_threads_than_work() -> None:
    arena = Arena(1 << 16, huge_pages=False)
    program = Program(arena, 1, [(1, 0)], 4)
    program.rope_table(frequencies=0, pairs=1, table=1024)
    Executor(best_isa(), 32).run(program, [0], [([[0]], 1, 0)], [])


@pytest.mark.parametrize("isa", ISAS)
def test_probes(isa: str) -> None:
    if not has_isa(isa):
        pytest.skip(f"{isa} probes were not run: not built, or not for this CPU")
    assert min(probe_read(isa, 2, 1 << 20, 1e-4)) > 0
    assert min(probe_int8(isa, 2, 1e-4)) > 0
    assert min(probe_f32(isa, 1, 1e-4)) > 0


def test_disk_probe(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"\0" * 12345)
    num_bytes, seconds, _ = probe_disk(str(path), 1 << 20, 0.1)
    assert num_bytes == 12345
    assert seconds > 0
    with pytest.raises(FileNotFoundError):
        probe_disk(str(tmp_path / "none"), 1, 0.1)


@given(st.lists(st.binary(max_size=20), max_size=8), st.integers(0, 200), st.integers(0, 12))
def test_scanned_strings(strings: list[bytes], cut: int, extra: int) -> None:
    data = b"".join(len(s).to_bytes(8, "little") + s for s in strings)
    assert scan_strings(data, 0, len(strings)) == len(data)
    short = data[: min(cut, len(data))]
    result = scan_strings(short, 0, len(strings) + extra)
    if len(short) < len(data) or extra:
        whole = -1 - result
        assert 0 <= whole <= len(strings)
        assert sum(8 + len(s) for s in strings[:whole]) <= len(short)


@given(st.binary(max_size=64), st.integers(0, (1 << 64) - 1), st.integers(0, 1 << 40))
def test_scanned_rubbish(data: bytes, offset: int, count: int) -> None:
    assert scan_strings(data, offset, count) <= len(data) or count == 0


def test_errors_are_value_errors() -> None:
    with pytest.raises(ValueError, match="'sse2' is unknown to this build"):
        Executor("sse2", 1)
    assert issubclass(InputError, ValueError)
