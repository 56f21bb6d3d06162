"""Which bytes of this process are in memory now, as the kernel says (proc_pid_pagemap(5))."""

import os

_PAGE = os.sysconf("SC_PAGE_SIZE")
_ENTRY = 8  # bytes per page in pagemap; the highest bit of the last one says "present"
_PRESENT = bytes(byte >> 7 for byte in range(256))
_CHUNK_PAGES = 1 << 16


def resident_bytes(address: int, num_bytes: int) -> int | None:
    """Return how many bytes of [address, address + num_bytes) are in memory, in whole pages.

    None where this system does not say. `address` and the end are rounded to pages around them.
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
