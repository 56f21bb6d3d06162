"""Whether the CPU's clock is what it was when the machine was measured."""

from tonnage import _native
from tonnage.core.machine import ISAS, Isa
from tonnage.core.rates import Rates

_PROBE_S = 0.01


def clock_ops_per_s(isa: Isa, seconds: float = _PROBE_S) -> float:
    """Return the int8 operations per second of one thread that works in registers alone."""
    return max(_native.probe_int8(isa, 1, seconds))


def clock_share(rates: Rates) -> float:
    """Return the speed of the clock now over that of `rates`; takes about 15 ms, no memory."""
    return clock_ops_per_s(_isa(rates)) / rates.clock_ops_per_s


def _isa(rates: Rates) -> Isa:
    return next(isa for isa in ISAS if isa == rates.isa)
