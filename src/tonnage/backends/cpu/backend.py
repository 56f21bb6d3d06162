"""The CPU as a backend."""

from collections.abc import Callable

from tonnage.backends.cpu.layout.cpu_layout import CpuLayout
from tonnage.backends.cpu.runtime import CpuRuntime
from tonnage.core.plan import Plan


class CpuBackend:
    """Carries plans out on this machine's cores."""

    name = "cpu"
    layout = CpuLayout()

    def __init__(self, isa: str) -> None:
        """isa: the instruction set whose kernels are to run."""
        self._isa = isa

    def load(self, plan: Plan, on_place: Callable[[int], None] | None = None) -> CpuRuntime:
        """Return the model of `plan`, loaded; see `tonnage.backends.protocol.Backend`."""
        return CpuRuntime(plan, self._isa, on_place)
