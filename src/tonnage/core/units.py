"""Bytes: how they are written, and how they are read."""

import re

from tonnage.core.errors import UnitError

_SUFFIX_BYTES = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
# A letter alone is binary, as `docker --memory`, systemd and Java have it.
_LETTERS = {"k": "kib", "m": "mib", "g": "gib", "t": "tib"}
_DECIMAL = {"kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_COUNTS = {"": 1, "k": 1 << 10, "m": 1 << 20}
_MOST_COUNT = 1 << 40
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
    """Return the bytes that `text` states, such as `700MiB`, `8G`, `512m` or `1048576`.

    `8GB` is 8 * 10^9, as the SI has it; `decimal_note` says so. Raises UnitError for anything else.
    """
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise UnitError(f"{text!r} is not a number of bytes; write it like 700MiB or 1.5GiB.")
    number, suffix = match.groups()
    known = {name.lower(): size for name, size in _SUFFIX_BYTES.items()} | _DECIMAL
    unit = _LETTERS.get(suffix.lower(), suffix.lower())
    if unit not in known:
        raise UnitError(f"{text!r} has the unknown unit {suffix!r}; use KiB, MiB, GiB or TiB.")
    if not suffix and "." in number:
        raise UnitError(f"{text!r} has no unit; write {number}GiB, or a whole number of bytes.")
    value = float(number) * known[unit]
    if value >= _MOST_BYTES:
        raise UnitError(f"{text[:40]!r} is more than any machine has; write it like 700MiB.")
    num_bytes = int(value)
    if num_bytes < 1:
        raise UnitError(f"{text!r} is less than one byte; write it like 700MiB.")
    return num_bytes


def decimal_note(text: str) -> str | None:
    """Return what to say of a size in powers of ten, None for one in others or for no size."""
    match = _PATTERN.fullmatch(text)
    if match is None or match[2].lower() not in _DECIMAL:
        return None
    stated, letter = parse_bytes(text), match[2][0].upper()
    return (
        f"{text.strip()} is {stated:,} bytes, which is {format_bytes(stated)}; write {match[1]}"
        f"{letter}iB or {match[1]}{letter} for powers of 1024."
    )


def parse_count(text: str) -> int:
    """Return a count such as `4096`, `32k` (32,768) or `1m`. Raises UnitError for anything else."""
    match = _PATTERN.fullmatch(text.replace("_", "").replace(",", ""))
    if match is None or match[2].lower() not in _COUNTS or ("." in match[1] and not match[2]):
        raise UnitError(f"{text[:40]!r} is no count; write it like 4096 or 32k.")
    value = float(match[1]) * _COUNTS[match[2].lower()]
    if value >= _MOST_COUNT:
        raise UnitError(f"{text[:40]!r} is more than there can be; write it like 4096 or 32k.")
    return int(value)
