"""Whole multiples of a unit."""


def round_up(value: int, unit: int) -> int:
    """Return the smallest multiple of `unit` that is at least `value`."""
    return (value + unit - 1) // unit * unit
