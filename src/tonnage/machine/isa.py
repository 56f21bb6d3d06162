"""Which kernels this CPU can run."""

from collections.abc import Set

from tonnage.core.errors import IsaError
from tonnage.core.machine import ISAS, Isa

ISA_VARIABLE = "TONNAGE_ISA"

# What the kernels of each instruction set are compiled with, by the kernel's names of CPU features.
_AVX2 = frozenset({"avx2", "fma", "f16c", "bmi2"})
_AVX512 = _AVX2 | {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni", "avx512vbmi"}
_NEEDS: dict[Isa, frozenset[str]] = {"scalar": frozenset(), "avx2": _AVX2, "avx512": _AVX512}


def best_isa(features: Set[str]) -> Isa:
    """Return the widest instruction set for a CPU with `features` (names as in /proc/cpuinfo)."""
    for isa in reversed(ISAS):
        if _NEEDS[isa] <= features:
            return isa
    return "scalar"


def select_isa(features: Set[str], forced: str | None) -> Isa:
    """Return `forced` (the value of TONNAGE_ISA), or the best instruction set when it is empty.

    Raises IsaError for an unknown name and for one the CPU lacks.
    """
    if not forced:
        return best_isa(features)
    for isa in ISAS:
        if isa == forced:
            _check(isa, features)
            return isa
    raise IsaError(
        f"{ISA_VARIABLE}={forced} is unknown; use one of {', '.join(ISAS)}, or unset it."
    )


def _check(isa: Isa, features: Set[str]) -> None:
    missing = sorted(_NEEDS[isa] - features)
    if missing:
        raise IsaError(
            f"{ISA_VARIABLE}={isa} needs {len(missing)} CPU features that this CPU lacks "
            f"({', '.join(missing)}); use {ISA_VARIABLE}={best_isa(features)}, or unset it."
        )
