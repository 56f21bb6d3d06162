"""Measured rates kept as a small file per machine, found again while machine and kernels stay."""

import os
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from tonnage import _native
from tonnage.core.digest import short_digest
from tonnage.core.errors import MachineError
from tonnage.core.machine import Machine

if TYPE_CHECKING:
    from tonnage.core.rates import Rates

# Raise it when the same kernels would be measured or put together in another way.
METHOD_VERSION = 6
_LIMIT_BYTES = 1 << 20


def rates_key(machine: Machine) -> str:
    """Return what identifies a machine and the kernels on it; others may run differently."""
    parts = (
        METHOD_VERSION,
        machine.cpu_model,
        machine.isa,
        machine.affinity,
        machine.num_cores,
        [asdict(cache) for cache in machine.caches],
        machine.memory_total_bytes,
        machine.huge_pages,
        _kernels_stamp(),
    )
    return repr(parts)


@cache
def _kernels_stamp() -> tuple[int, int]:
    # Reading and digesting it would cost each run megabytes and milliseconds.
    state = Path(_native.__file__).stat()
    return state.st_size, state.st_mtime_ns


def _file_name(key: str) -> str:
    return f"{short_digest(key.encode())}.json"


def load_rates(folder: Path, machine: Machine) -> "Rates | None":
    """Return the rates in `folder` that were measured here; None without readable ones."""
    key = rates_key(machine)
    try:
        with (folder / _file_name(key)).open("rb") as stream:
            from tonnage.core.rates import Rates

            rates = Rates.from_json(stream.read(_LIMIT_BYTES).decode())
    except (OSError, UnicodeDecodeError, MachineError):
        return None
    return rates if (rates.key, rates.isa) == (key, machine.isa) else None


def store_rates(folder: Path, rates: "Rates") -> None:
    """Keep `rates` in `folder`, which is made if need be; a reader sees all of it or none.

    Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    new = folder / f".{os.getpid()}.new"
    try:
        new.write_text(rates.to_json(), "utf-8")
        new.replace(folder / _file_name(rates.key))
    except BaseException:
        new.unlink(missing_ok=True)
        raise
