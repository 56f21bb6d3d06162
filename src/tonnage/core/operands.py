"""What steps work on: activations in scratch, parts of a product, heads of keys and values."""

from typing import Literal

from tonnage.core.record import record

Form = Literal["float32", "float64", "codes"]
# RMSNorm (Zhang & Sennrich 2019), LayerNorm (Ba et al. 2016), and that with a bias.
NormKind = Literal["rms", "layer", "biased layer"]


@record
class Area:
    """Rows of `cols` elements in a scratch buffer; rows: None for as many as a step has."""

    buffer: str
    cols: int
    form: Form = "float32"
    rows: int | None = None


@record
class Activations:
    """Rows of `cols` elements that products read: as int8 codes with scales, as float32, or both.

    They lie in the buffers `<buffer>_codes` and `<buffer>_values`.
    """

    buffer: str
    cols: int
    codes: bool
    values: bool

    @property
    def areas(self) -> tuple[Area, ...]:
        """Where they lie."""
        codes = (Area(self.buffer + "_codes", self.cols, "codes"),) if self.codes else ()
        return (*codes, Area(self.buffer + "_values", self.cols)) if self.values else codes

    @property
    def names(self) -> tuple[str, ...]:
        """The buffers that hold them."""
        codes = (self.buffer + "_codes",) if self.codes else ()
        return (*codes, self.buffer + "_values") if self.values else codes


@record
class ProductPart:
    """One matrix of a product: its rows become the output columns from `column` on."""

    weight: str
    bias: str | None
    column: int


@record
class Heads:
    """Keys and values of a layer: index into `KvPlan.layers`, key heads, elements of each head."""

    layer: int
    num_kv_heads: int
    k_dim: int
    v_dim: int

    def cols(self, num_heads: int) -> int:
        """Return the columns of queries, keys and values side by side."""
        return (num_heads + self.num_kv_heads) * self.k_dim + self.num_kv_heads * self.v_dim
