"""What the C allocator keeps of freed memory, and giving it back to the system."""

from contextlib import suppress

_M_MMAP_THRESHOLD = -3


def return_large_blocks() -> None:
    """Let the C allocator give blocks of 128 KiB and more back when they are freed, from now on.

    On its own it raises that bound to the largest block freed so far, up to 32 MiB, and keeps what
    is smaller. See mallopt(3); a C library without it is left as it is.
    """
    import ctypes

    with suppress(AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 128 << 10)


def return_free_memory() -> None:
    """Give what the allocator keeps of freed memory back to the system (malloc_trim(3))."""
    import ctypes

    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # glibc alone has it
        trim(ctypes.c_size_t(0))
