"""Types of the native core."""

from collections.abc import Buffer

def scan_strings(buffer: Buffer, offset: int, count: int) -> int: ...
