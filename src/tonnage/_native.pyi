"""Types of the native core."""

from typing_extensions import Buffer

def scan_strings(buffer: Buffer, offset: int, count: int) -> int: ...
