"""Giving pages of memory back to the system while the arena stays where it is."""

import mmap
from collections.abc import Iterator

_MADV_DONTNEED = 4
_MADV_NOHUGEPAGE = 15


def release_pages(begin: int, stride: int, pages: list[int]) -> None:
    """Release the pages `pages` of `stride` bytes each after the address `begin`.

    Only whole pages of the system go, so up to one of them stays at either end of a run. Raises
    OSError when the system refuses. See madvise(2); anonymous private memory reads as zero after.
    """
    # A shrinking budget is rare, and ctypes costs a mebibyte.
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    for first, count in _runs(sorted(pages)):
        start = -(-(begin + first * stride) // mmap.PAGESIZE) * mmap.PAGESIZE
        end = (begin + (first + count) * stride) // mmap.PAGESIZE * mmap.PAGESIZE
        if start >= end:
            continue
        address, size = ctypes.c_void_p(start), ctypes.c_size_t(end - start)
        # Or the kernel's collector of huge pages would fill the holes again within seconds. It may
        # refuse where it has no huge pages.
        libc.madvise(address, size, _MADV_NOHUGEPAGE)
        if libc.madvise(address, size, _MADV_DONTNEED):
            number = ctypes.get_errno()
            raise OSError(number, f"madvise of {end - start:,} bytes failed")


def _runs(pages: list[int]) -> Iterator[tuple[int, int]]:
    """Yield (first, count) of neighbouring ids."""
    begin = 0
    for index in range(1, len(pages) + 1):
        if index == len(pages) or pages[index] != pages[index - 1] + 1:
            yield pages[begin], index - begin
            begin = index
