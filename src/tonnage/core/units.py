"""Bytes: how they are written, and how they are read."""

import re

from tonnage.core.errors import UnitError

_SUFFIX_BYTES = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_DECIMAL = {"KB": "KiB", "MB": "MiB", "GB": "GiB", "TB": "TiB"}
_MOST_BYTES = 1 << 60
_PATTERN = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*")


def format_bytes(num_bytes: int) -> str:
    """Return `num_bytes` in the largest binary unit that keeps at least one whole unit."""
    for suffix in ("TiB", "GiB", "MiB", "KiB"):
        unit = _SUFFIX_BYTES[suffix]
        if abs(num_bytes) >= unit:
            return f"{num_bytes / unit:,.1f} {suffix}"
    return f"{num_bytes:,} B"


def parse_bytes(text: str) -> int:
    """Return the bytes that `text` states, such as `700MiB`, `1.5GiB` or `1048576`.

    Raises UnitError for anything else; decimal units are refused because half of the readers mean
    the binary ones.
    """
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise UnitError(f"{text!r} is not a number of bytes; write it like 700MiB or 1.5GiB.")
    number, suffix = match.groups()
    if suffix.upper() in _DECIMAL:
        better = number + _DECIMAL[suffix.upper()]
        raise UnitError(f"{text!r} is ambiguous (1000s or 1024s?); write {better}.")
    known = {name.lower(): name for name in _SUFFIX_BYTES}
    if suffix.lower() not in known:
        raise UnitError(f"{text!r} has the unknown unit {suffix!r}; use KiB, MiB, GiB or TiB.")
    if not suffix and "." in number:
        raise UnitError(f"{text!r} has no unit; write {number}GiB, or a whole number of bytes.")
    value = float(number) * _SUFFIX_BYTES[known[suffix.lower()]]
    if value >= _MOST_BYTES:
        raise UnitError(f"{text[:40]!r} is more than any machine has; write it like 700MiB.")
    num_bytes = int(value)
    if num_bytes < 1:
        raise UnitError(f"{text!r} is less than one byte; write it like 700MiB.")
    return num_bytes
