"""Which kernels this CPU can run. The sets and what they need: native/isa.table."""

from collections.abc import Set

from tonnage import _native
from tonnage.core.errors import IsaError

ISA_VARIABLE = "TONNAGE_ISA"

_NEEDS = dict(_native.instruction_sets())
# Those of this build, from the least to the most preferred.
ISAS = tuple(_NEEDS)


def select_isa(features: Set[str], forced: str | None) -> str:
    """Return `forced` (the value of TONNAGE_ISA), or the best instruction set when it is empty.

    features: of the CPU, as /proc/cpuinfo names them. Raises IsaError for an unknown name and for
    one the CPU lacks.
    """
    best = _native.best_isa(features)
    if not forced:
        return best
    if forced not in _NEEDS:
        raise IsaError(
            f"{ISA_VARIABLE}={forced} is unknown; use one of {', '.join(ISAS)}, or unset it."
        )
    missing = sorted(_NEEDS[forced] - features)
    if missing:
        raise IsaError(
            f"{ISA_VARIABLE}={forced} needs {len(missing)} CPU features that this CPU lacks "
            f"({', '.join(missing)}); use {ISA_VARIABLE}={best}, or unset it."
        )
    return forced
