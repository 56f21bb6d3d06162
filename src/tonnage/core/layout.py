"""The layout of a device: how many bytes weights and pages take there, and where they lie."""

from typing import Protocol

from tonnage.core.block import Shape
from tonnage.core.model_spec import ModelSpec
from tonnage.core.plan import Plan
from tonnage.core.workload import Workload


class Layout(Protocol):
    """What the planner asks of a device. Pure: an answer depends on its arguments alone."""

    @property
    def weights_unit(self) -> int:
        """Bytes of which the item `weights` is a multiple."""

    def plan(self, spec: ModelSpec, workload: Workload, like: Plan | None = None) -> Plan:
        """Return the plan of `spec` for `workload`.

        like: a plan of `spec` whose workload has the same weights and steps
        (`Workload.has_steps_of`), which need not be laid out again then.

        Raises UnsupportedModelError when the device cannot compute the model, RequestError for
        formats that it cannot take.
        """

    def matrix_bytes(self, fmt: str, shape: Shape) -> int:
        """Return the bytes of a matrix in a format, or of a stack of them, padding included."""

    def other_weight_bytes(self, spec: ModelSpec) -> int:
        """Return what vectors, angles and alignment take beside the matrices, in any formats."""

    def page_bytes(self, spec: ModelSpec, workload: Workload) -> int:
        """Return the bytes of the item `kv pages`."""
