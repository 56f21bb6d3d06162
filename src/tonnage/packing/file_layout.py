"""A GGUF file as a layout: what the allocator of formats asks of a device, answered for a file."""

from collections.abc import Mapping

from tonnage.core.block import Shape
from tonnage.core.block_format import BY_NAME
from tonnage.core.checkpoint import Catalog
from tonnage.core.errors import PackError
from tonnage.core.model_spec import ModelSpec
from tonnage.core.plan import Plan
from tonnage.core.workload import Workload
from tonnage.formats.gguf_write import padded

_NO_FORM = 1 << 60


class FileLayout:
    """Bytes of matrices as a file has them; of plans and pages it knows nothing."""

    weights_unit = 1

    def __init__(self, catalog: Catalog, header_bytes: int) -> None:
        """Take the source's tensors, and the bytes of everything before their data."""
        self._total = header_bytes + sum(padded(one.nbytes) for one in catalog.tensors.values())

    def plan(self, spec: ModelSpec, workload: Workload, like: Plan | None = None) -> Plan:
        """Raise PackError: a file carries no plan out."""
        raise PackError("A file has no plan; plan for a device.")

    def matrix_bytes(self, fmt: str, shape: Shape) -> int:
        """Return the bytes of a matrix; more than any file has where rows are no whole blocks."""
        own = BY_NAME[fmt]
        return _NO_FORM if shape[-1] % own.block_elems else padded(own.nbytes(shape))

    def other_weight_bytes(self, spec: ModelSpec) -> int:
        """Return the bytes of everything but the model's matrices."""
        matrices = (one for one in spec.weights.values() if len(one.shape) > 1)
        return self._total - sum(padded(one.nbytes) for one in matrices)

    def page_bytes(self, spec: ModelSpec, workload: Workload) -> int:
        """Return 0: a file has no pages."""
        return 0

    def file_bytes(self, formats: Mapping[str, str], spec: ModelSpec) -> int:
        """Return the bytes of a file with these formats, own ones where none is given."""
        total = self.other_weight_bytes(spec)
        for name, one in spec.weights.items():
            if len(one.shape) > 1:
                total += self.matrix_bytes(formats.get(name, one.format.name), one.shape)
        return total
