"""Pages given back to the system are no longer resident, and their neighbours keep their bytes."""

import mmap
import sys

import pytest

from tonnage._native import Arena
from tonnage.backends.cpu.release import release_pages
from tonnage.backends.cpu.resident import resident_bytes

STRIDE = 3 * mmap.PAGESIZE + 64


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/pagemap")
def test_released_pages_are_empty_and_others_stay() -> None:
    arena = Arena(40 * STRIDE, huge_pages=False)
    for page in range(40):
        arena.write(page * STRIDE, bytes([page + 1]) * STRIDE)
    before = resident_bytes(arena.address, 40 * STRIDE)
    release_pages(arena.address, STRIDE, [30, 7, 5, 6, 31])
    after = resident_bytes(arena.address, 40 * STRIDE)
    assert before is not None
    assert after is not None
    # Two runs, each of which may keep a page of the system at either end.
    assert 5 * STRIDE - 4 * mmap.PAGESIZE <= before - after <= 5 * STRIDE
    for page in set(range(40)) - {5, 6, 7, 30, 31}:
        assert arena.read(page * STRIDE, STRIDE) == bytes([page + 1]) * STRIDE
    assert arena.read(6 * STRIDE, STRIDE) == bytes(STRIDE)
