"""The steps of attention over pages: norms and rotation of heads, the last-token gather, attention.

See `tonnage.core.steps`, whose union they belong to.
"""

from typing import ClassVar

from tonnage.core.operands import Activations, Area, Heads
from tonnage.core.operation import Operation, named
from tonnage.core.record import record


@record
class QkNorm(Operation):
    """Norm queries and keys in place, over all heads of a token together (OLMo et al. 2025).

    qkv: rows of num_heads queries, keys and values side by side. q_norm, k_norm: RMS norm, a weight
    per element of all heads.
    """

    op: ClassVar[str] = "qk_norm"
    qkv: str
    num_heads: int
    kv: Heads
    q_norm: str
    k_norm: str
    eps: float

    @property
    def reads(self) -> tuple[str, ...]:
        """Queries, keys and values."""
        return (self.qkv,)

    @property
    def writes(self) -> tuple[Area, ...]:
        """The same in place."""
        return (Area(self.qkv, self.kv.cols(self.num_heads)),)

    @property
    def vectors(self) -> tuple[str, ...]:
        """The norms' weights."""
        return (self.q_norm, self.k_norm)

    @property
    def elements(self) -> int:
        """Queries and keys."""
        return (self.num_heads + self.kv.num_kv_heads) * self.kv.k_dim


@record
class RopeKvWrite(Operation):
    """Norm and rotate queries and keys in place, and store keys and values in the row's page.

    qkv: rows of num_heads queries, keys and values side by side. q_norm, k_norm: RMS norm per head.
    scale: of the queries. pairs: of each head, rotated by the angles of `table`; interleaved: pair
    i is elements 2i and 2i+1, else i and i + pairs; 0 pairs need no table. k_bias: of the keys,
    left out of int8 codes in the pairs from `low_from` on, whose frequency is low. temperature: at
    position p queries are scaled by 1 + temperature * log(1 + floor(p / temperature_tokens)) too.
    """

    op: ClassVar[str] = "rope_kv_write"
    qkv: str
    num_heads: int
    kv: Heads
    q_norm: str | None
    k_norm: str | None
    eps: float
    scale: float
    table: str | None
    pairs: int
    interleaved: bool
    k_bias: str | None
    low_from: int
    temperature: float = 0.0
    temperature_tokens: int = 0

    @property
    def reads(self) -> tuple[str, ...]:
        """Queries, keys and values, and the angles."""
        return named(self.qkv, self.table)

    @property
    def writes(self) -> tuple[Area, ...]:
        """The same in place."""
        return (Area(self.qkv, self.kv.cols(self.num_heads)),)

    @property
    def vectors(self) -> tuple[str, ...]:
        """The norms' weights; the bias is one of the product's."""
        return named(self.q_norm, self.k_norm)

    @property
    def elements(self) -> int:
        """Queries, keys and values."""
        return self.kv.cols(self.num_heads)


@record
class GatherLast(Operation):
    """Keep only rows with logits from here on: rows of each buffer move up to the front.

    Behind the last keys and values nobody reads the hidden state of other rows. buffers: (name,
    columns). kept: what a block in parallel reads behind it.
    """

    op: ClassVar[str] = "gather_last"
    buffers: tuple[tuple[str, int], ...]
    kept: Activations | None = None

    @property
    def reads(self) -> tuple[str, ...]:
        """The buffers."""
        return tuple(area.buffer for area in self.writes)

    @property
    def writes(self) -> tuple[Area, ...]:
        """The same in place."""
        kept = () if self.kept is None else self.kept.areas
        return (*(Area(name, cols) for name, cols in self.buffers), *kept)

    @property
    def elements(self) -> int:
        """Too few to count."""
        return 0


@record
class Attend(Operation):
    """out = softmax(q k) v over the sequence's pages (Dao et al. 2022), per query head.

    window: how many last positions are seen, own one included, 0 for all. softcap: cap * tanh(score
    / cap), 0 for none.
    """

    op: ClassVar[str] = "attend"
    qkv: str
    num_heads: int
    kv: Heads
    window: int
    softcap: float
    out: str

    @property
    def reads(self) -> tuple[str, ...]:
        """The queries."""
        return (self.qkv,)

    @property
    def writes(self) -> tuple[Area, ...]:
        """The heads' outputs side by side."""
        return (Area(self.out, self.num_heads * self.kv.v_dim),)

    @property
    def elements(self) -> int:
        """Counted as attention."""
        return 0
