"""The steps of a forward pass: one frozen type per operation, over named weights and buffers.

A step names matrices and vectors of the plan, scratch buffers, rotary embeddings and layers of the
KV cache. Where those lie is the plan's and the backend's to know. Each type tells what it reads,
writes and multiplies with, so that lifetimes, cost and page identity need no list of their own.
`Step` is the closed union of all types: a reader that matches over it and ends in `assert_never`
does not pass mypy while it forgets one.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from tonnage.core.operands import Activations, Area, Heads, ProductPart
from tonnage.core.operation import Operation, named

Activation = Literal["silu", "gelu_tanh"]


@dataclass(frozen=True, slots=True)
class Embed(Operation):
    """x = row of `table` by token id, times `scale`; `cols` elements."""

    op: ClassVar[str] = "embed"
    table: str
    scale: float
    x: str
    cols: int

    @property
    def reads(self) -> tuple[str, ...]:
        """Nothing of scratch."""
        return ()

    @property
    def writes(self) -> tuple[Area, ...]:
        """The residual stream."""
        return (Area(self.x, self.cols),)

    @property
    def elements(self) -> int:
        """A row of the table."""
        return self.cols


@dataclass(frozen=True, slots=True)
class RopeTable(Operation):
    """Cosines and sines of `pairs` angles at each row's position, by rotary embedding `rope`."""

    op: ClassVar[str] = "rope_table"
    rope: int
    pairs: int
    table: str

    @property
    def reads(self) -> tuple[str, ...]:
        """Nothing of scratch."""
        return ()

    @property
    def writes(self) -> tuple[Area, ...]:
        """The table: a cosine and a sine per pair."""
        return (Area(self.table, 2 * self.pairs),)

    @property
    def elements(self) -> int:
        """One per pair."""
        return self.pairs


@dataclass(frozen=True, slots=True)
class Norm(Operation):
    """out = RMS norm of x with `weight` (Zhang & Sennrich 2019).

    With `added`, x += RMS norm of that buffer with `added_weight` comes before. gather: of rows
    with logits alone, one behind the other.
    """

    op: ClassVar[str] = "norm"
    x: str
    weight: str
    added: str | None
    added_weight: str | None
    eps: float
    out: Activations
    gather: bool

    @property
    def reads(self) -> tuple[str, ...]:
        """The residual stream, and what is added to it."""
        return (self.x,) if self.added is None else (self.x, self.added)

    @property
    def writes(self) -> tuple[Area, ...]:
        """The output, and the residual stream where something is added."""
        x = () if self.added is None else (Area(self.x, self.out.cols),)
        return (*self.out.areas, *x)

    @property
    def vectors(self) -> tuple[str, ...]:
        """The weights of both norms."""
        return named(self.added_weight, self.weight)

    @property
    def elements(self) -> int:
        """A row."""
        return self.out.cols


@dataclass(frozen=True, slots=True)
class Matmul(Operation):
    """out = input times the transposed matrices of `parts`, side by side in rows of `out_cols`.

    cap: cap * tanh(y / cap) of the result, 0 for none. accumulate: added to what is there. gather:
    see `Norm`. out_rows: rows that fit `out`, None for all of a step.
    """

    op: ClassVar[str] = "matmul"
    capacity: ClassVar[frozenset[str]] = frozenset({"out_rows"})
    parts: tuple[ProductPart, ...]
    input: Activations
    out: str
    out_cols: int
    cap: float = 0.0
    accumulate: bool = False
    gather: bool = False
    out_rows: int | None = None

    @property
    def reads(self) -> tuple[str, ...]:
        """The input, and the output where the result is added to it."""
        return (*self.input.names, self.out) if self.accumulate else self.input.names

    @property
    def writes(self) -> tuple[Area, ...]:
        """The output."""
        return (Area(self.out, self.out_cols, rows=self.out_rows),)

    @property
    def vectors(self) -> tuple[str, ...]:
        """The biases."""
        return named(*(part.bias for part in self.parts))

    @property
    def weights(self) -> tuple[str, ...]:
        """The matrices of all parts."""
        return tuple(part.weight for part in self.parts)

    @property
    def elements(self) -> int:
        """Counted as a product."""
        return 0


@dataclass(frozen=True, slots=True)
class Gated(Operation):
    """out = activation(gate * input) times (up * input), element by element (Shazeer 2020)."""

    op: ClassVar[str] = "gated"
    gate: str
    up: str
    input: Activations
    out: Activations
    activation: Activation

    @property
    def reads(self) -> tuple[str, ...]:
        """The input."""
        return self.input.names

    @property
    def writes(self) -> tuple[Area, ...]:
        """The output."""
        return self.out.areas

    @property
    def weights(self) -> tuple[str, ...]:
        """Both matrices: one sweep reads them."""
        return (self.gate, self.up)

    @property
    def elements(self) -> int:
        """Counted as a product."""
        return 0


@dataclass(frozen=True, slots=True)
class RopeKvWrite(Operation):
    """Norm and rotate queries and keys in place, and store keys and values in the row's page.

    qkv: rows of num_heads queries, keys and values side by side. q_norm, k_norm: RMS norm per head.
    scale: of the queries. pairs: of each head, rotated by the angles of `table`; interleaved: pair
    i is elements 2i and 2i+1, else i and i + pairs; 0 pairs need no table. k_bias: of the keys,
    left out of int8 codes in the pairs from `low_from` on, whose frequency is low.
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


@dataclass(frozen=True, slots=True)
class GatherLast(Operation):
    """Keep only rows with logits from here on: rows of each buffer move up to the front.

    Behind the last keys and values nobody reads the hidden state of other rows. buffers: (name,
    columns).
    """

    op: ClassVar[str] = "gather_last"
    buffers: tuple[tuple[str, int], ...]

    @property
    def reads(self) -> tuple[str, ...]:
        """The buffers."""
        return tuple(name for name, _ in self.buffers)

    @property
    def writes(self) -> tuple[Area, ...]:
        """The same in place."""
        return tuple(Area(name, cols) for name, cols in self.buffers)

    @property
    def elements(self) -> int:
        """Too few to count."""
        return 0


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class Quantize(Operation):
    """out = codes of x."""

    op: ClassVar[str] = "quantize"
    x: str
    out: Activations

    @property
    def reads(self) -> tuple[str, ...]:
        """The values."""
        return (self.x,)

    @property
    def writes(self) -> tuple[Area, ...]:
        """The codes."""
        return self.out.areas

    @property
    def elements(self) -> int:
        """A row."""
        return self.out.cols


@dataclass(frozen=True, slots=True)
class PoolHidden(Operation):
    """Add the normed hidden states of rows to sums per slot, in float64: for embeddings alone.

    weight, added, added_weight, eps: as of the last `Norm`, done again for rows without logits.
    """

    op: ClassVar[str] = "pool_hidden"
    capacity: ClassVar[frozenset[str]] = frozenset({"slots"})
    x: str
    weight: str
    added: str | None
    added_weight: str | None
    eps: float
    cols: int
    sums: str
    slots: int

    @property
    def reads(self) -> tuple[str, ...]:
        """The residual stream, what is added to it, and the sums so far."""
        return (self.x, self.sums) if self.added is None else (self.x, self.added, self.sums)

    @property
    def writes(self) -> tuple[Area, ...]:
        """The sums."""
        return (Area(self.sums, self.cols, "float64", self.slots),)

    @property
    def vectors(self) -> tuple[str, ...]:
        """The weights of both norms."""
        return named(self.added_weight, self.weight)

    @property
    def elements(self) -> int:
        """Not counted: it runs for embeddings alone, and is little beside what they take."""
        return 0


Step = (
    Embed | RopeTable | Norm | Matmul | Gated | RopeKvWrite | GatherLast | Attend | Quantize
    | PoolHidden
)  # fmt: skip
STEP_TYPES: tuple[type[Step], ...] = (
    Embed, RopeTable, Norm, Matmul, Gated, RopeKvWrite, GatherLast, Attend, Quantize, PoolHidden,
)  # fmt: skip
