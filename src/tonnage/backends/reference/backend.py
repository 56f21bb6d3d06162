"""The reference as a backend."""

from collections.abc import Callable

from tonnage.backends.reference.layout import ReferenceLayout
from tonnage.backends.reference.runtime import ReferenceRuntime
from tonnage.core.plan import Plan


class ReferenceBackend:
    """Carries plans out in float64, whatever formats they name."""

    name = "reference"
    layout = ReferenceLayout()

    def load(self, plan: Plan, on_place: Callable[[int], None] | None = None) -> ReferenceRuntime:
        """Return the model of `plan`, loaded; see `tonnage.backends.protocol.Backend`."""
        return ReferenceRuntime(plan, on_place)
