"""How many bytes a process may come to, and whose limit that is."""

from typing import TYPE_CHECKING

from tonnage.core.errors import BudgetError, UnitError
from tonnage.core.machine import Machine
from tonnage.core.record import record
from tonnage.core.units import format_bytes, parse_bytes

if TYPE_CHECKING:
    from tonnage.core.hardware import Device

# Left of the memory that the kernel calls available. It counts pages of files there that it would
# have to drop, the model's own among them while they are read, and between the plan and the last
# page that a full context touches other programs grow. A cgroup's limit is ours, so that nothing is
# left of it.
RESERVE_BYTES = 256 << 20
_UNKNOWN_BYTES = 1 << 50


@record
class Budget:
    """Bytes that the whole process may come to; origin: words for whose limit it is."""

    num_bytes: int
    origin: str


def choose_budget(machine: Machine, memory: str | int | None, held_bytes: int) -> Budget:
    """Return what a process that holds `held_bytes` may come to: `memory`, or what it can get.

    Without `memory` the tightest counts: of the cgroups' and resource limits, and of the memory
    that is available less RESERVE_BYTES. It never exceeds a limit, whatever is held.

    Raises UnitError for what states no bytes, BudgetError for more than the machine, or one of the
    limits, has.
    """
    if memory is None:
        return _left(machine, held_bytes)
    stated = _stated(memory)
    ceilings = [(limit.limit_bytes, limit.source) for limit in machine.memory_limits]
    if machine.memory_total_bytes > 0:
        ceilings.append((machine.memory_total_bytes, "this machine's memory"))
    for ceiling, source in sorted(ceilings):
        if stated > ceiling:
            raise BudgetError(
                f"{format_bytes(stated)} were allowed and {source} ends at "
                f"{format_bytes(ceiling)}; state at most that."
            )
    return Budget(stated, "were allowed")


def require_within(num_bytes: int, budget: Budget) -> None:
    """Raise BudgetError when a plan of so many bytes takes more than the budget."""
    if num_bytes > budget.num_bytes:
        raise BudgetError(
            f"The plan takes {format_bytes(num_bytes)} in this process and "
            f"{format_bytes(budget.num_bytes)} {budget.origin}, "
            f"{format_bytes(num_bytes - budget.num_bytes)} short; allow --memory "
            f"{-(-num_bytes >> 20)}MiB, or plan again with less."
        )


def device_budget(device: "Device", memory: str | int | None) -> Budget:
    """Return what a process on `device` may come to: `memory`, or all of its largest tier.

    Raises UnitError for what states no bytes, BudgetError for more than that tier has.
    """
    homes = [tier for tier in device.tiers if tier.role != "cache"]
    largest = max(homes, key=lambda tier: tier.capacity_bytes or 0)
    capacity = largest.capacity_bytes
    if memory is None:
        if capacity is None:
            return Budget(_UNKNOWN_BYTES, f"are assumed: no capacity of {device.name} is known")
        return Budget(capacity, f"are what {largest.name} of {device.name} holds")
    stated = _stated(memory)
    if capacity is not None and stated > capacity:
        raise BudgetError(
            f"{format_bytes(stated)} were allowed and {largest.name} of {device.name} holds "
            f"{format_bytes(capacity)}; state at most that."
        )
    return Budget(stated, "were allowed")


def _stated(memory: str | int) -> int:
    stated = parse_bytes(memory) if isinstance(memory, str) else memory
    if isinstance(stated, bool) or not isinstance(stated, int) or stated < 1:
        raise UnitError(
            f"{stated!r} is not a number of bytes; write it like '700MiB' or 734003200."
        )
    return stated


def _left(machine: Machine, held_bytes: int) -> Budget:
    available = max(0, machine.memory_available_bytes - RESERVE_BYTES)
    everything = max(0, machine.memory_total_bytes - RESERVE_BYTES)
    bounds = [
        (limit.bound_bytes(held_bytes), f"{limit.source} leaves no more")
        for limit in machine.memory_limits
    ]
    reserve = f"less {format_bytes(RESERVE_BYTES)} for others"
    bounds.append((held_bytes + available, f"what this machine has available, {reserve}"))
    if everything:
        bounds.append((everything, f"what this machine has, {reserve}"))
    num_bytes, whose = min(bounds)
    return Budget(num_bytes, f"may be used by this process ({whose})")
