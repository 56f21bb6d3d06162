"""Which bytes of an arena are in memory now, as the kernel tells (proc_pid_pagemap(5))."""

import os
from collections.abc import Iterator

from tonnage._native import Arena

_HUGE_PAGE = 2 << 20
_PAGE = os.sysconf("SC_PAGE_SIZE")
_ENTRY = 8  # bytes per page in pagemap; the highest bit of the last one says "present"
_PRESENT = bytes(byte >> 7 for byte in range(256))
_CHUNK_PAGES = 1 << 16


def find_arena(arena: Arena, scratch_offset: int) -> int | None:
    """Return the address of `arena`, or None where this system does not tell.

    16 random bytes are written at `scratch_offset` and looked for in the anonymous mappings that
    are large enough, where an arena can begin.
    """
    mark = os.urandom(16)
    arena.write(scratch_offset, mark)
    try:
        with open("/proc/self/mem", "rb", buffering=0) as memory:
            for address in _possible(arena.num_bytes):
                at = address + scratch_offset
                if not resident_bytes(at, len(mark)):
                    continue  # Reading it would make it resident.
                try:
                    memory.seek(at)
                    if memory.read(len(mark)) == mark:
                        return address
                except OSError:
                    continue  # That mapping cannot be read.
    except OSError:
        return None
    return None


def _possible(num_bytes: int) -> Iterator[int]:
    """Yield each border of huge pages with `num_bytes` of anonymous memory behind it."""
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        lines = maps.read().splitlines()
    for line in lines:
        span, access, _, _, inode, *name = line.split(None, 5)
        if inode != "0" or name or not access.startswith("rw"):
            continue
        begin, end = (int(part, 16) for part in span.split("-"))
        first = -(-begin // _HUGE_PAGE) * _HUGE_PAGE
        yield from range(first, end - num_bytes + 1, _HUGE_PAGE)


def resident_bytes(address: int, num_bytes: int) -> int | None:
    """Return how many bytes of [address, address + num_bytes) are in memory, in whole pages.

    None where this system does not tell. `address` and the end are rounded to pages around them.
    """
    page, last = address // _PAGE, -(-(address + num_bytes) // _PAGE)
    present = 0
    try:
        with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
            while page < last:
                pagemap.seek(page * _ENTRY)
                entries = pagemap.read(_ENTRY * min(_CHUNK_PAGES, last - page))
                if len(entries) < _ENTRY:
                    return None
                present += entries[_ENTRY - 1 :: _ENTRY].translate(_PRESENT).count(1)
                page += len(entries) // _ENTRY
    except OSError:
        return None
    return present * _PAGE
