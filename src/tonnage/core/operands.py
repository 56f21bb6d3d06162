"""What steps work on: activations in scratch, parts of a product, heads of keys and values."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Activations:
    """Rows of `cols` elements that products read: as int8 codes with scales, as float32, or both.

    They lie in the buffers `<buffer>_codes` and `<buffer>_values`.
    """

    buffer: str
    cols: int
    codes: bool
    values: bool

    @property
    def names(self) -> tuple[str, ...]:
        """The buffers that hold them."""
        forms = (("_codes", self.codes), ("_values", self.values))
        return tuple(self.buffer + suffix for suffix, there in forms if there)


@dataclass(frozen=True, slots=True)
class ProductPart:
    """One matrix of a product: its rows become the output columns from `column` on."""

    weight: str
    bias: str | None
    column: int


@dataclass(frozen=True, slots=True)
class Heads:
    """Keys and values of a layer: index into `KvPlan.layers`, key heads, elements of each head."""

    layer: int
    num_kv_heads: int
    k_dim: int
    v_dim: int

    def cols(self, num_heads: int) -> int:
        """Return the columns of queries, keys and values side by side."""
        return (num_heads + self.num_kv_heads) * self.k_dim + self.num_kv_heads * self.v_dim
