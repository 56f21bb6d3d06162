"""The steps of a forward pass: one frozen type per operation, over named weights and buffers.

A step names matrices and vectors of the plan, scratch buffers, rotary embeddings and layers of the
KV cache. Where those lie is the plan's and the backend's to know. Each type says what it reads,
writes and multiplies with, so that lifetimes, cost and page identity need no list of their own.
`Step` is the closed union of all types: a reader that matches over it and ends in `assert_never`
does not pass mypy while it forgets one.
"""

from typing import ClassVar, Literal

from tonnage.core.attention_steps import Attend as Attend
from tonnage.core.attention_steps import GatherLast as GatherLast
from tonnage.core.attention_steps import QkNorm as QkNorm
from tonnage.core.attention_steps import RopeKvWrite as RopeKvWrite
from tonnage.core.operands import Activations, Area, ProductPart
from tonnage.core.operation import Operation, named
from tonnage.core.record import record

Activation = Literal["silu", "gelu_tanh", "gelu", "relu2"]


@record
class Embed(Operation):
    """x = row of `table` by token id, times `scale`; `cols` elements.

    positions: a table whose row of the token's position is added to that.
    """

    op: ClassVar[str] = "embed"
    table: str
    scale: float
    x: str
    cols: int
    positions: str | None = None

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


@record
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


@record
class Norm(Operation):
    """out = RMS norm of x with `weight` (Zhang & Sennrich 2019), x as it is without one.

    With `added`, x += RMS norm of that buffer with `added_weight` comes before. gather: of rows
    with logits alone, one behind the other. centred: LayerNorm of x (Ba et al. 2016), to which
    `bias` may be added.
    """

    op: ClassVar[str] = "norm"
    x: str
    weight: str | None
    added: str | None
    added_weight: str | None
    eps: float
    out: Activations
    gather: bool
    centred: bool = False
    bias: str | None = None

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
        """The weights of both norms, and the bias."""
        return named(self.added_weight, self.weight, self.bias)

    @property
    def elements(self) -> int:
        """A row."""
        return self.out.cols


@record
class Matmul(Operation):
    """out = input times the transposed matrices of `parts`, side by side in rows of `out_cols`.

    scale: of products and biases. accumulate: added to what is there. cap: cap * tanh(y / cap) of
    the result, 0 for none. gather: see `Norm`. out_rows: rows that fit `out`, None for all of a
    step.
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
    scale: float = 1.0

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


@record
class Gated(Operation):
    """out = activation(gate * input) times (up * input), element by element (Shazeer 2020).

    Without `up` the first factor alone. gate_bias, up_bias: added to the two products, both or
    neither.
    """

    op: ClassVar[str] = "gated"
    gate: str
    up: str | None
    input: Activations
    out: Activations
    activation: Activation
    gate_bias: str | None = None
    up_bias: str | None = None

    @property
    def reads(self) -> tuple[str, ...]:
        """The input."""
        return self.input.names

    @property
    def writes(self) -> tuple[Area, ...]:
        """The output."""
        return self.out.areas

    @property
    def vectors(self) -> tuple[str, ...]:
        """The biases."""
        return named(self.gate_bias, self.up_bias)

    @property
    def weights(self) -> tuple[str, ...]:
        """Both matrices: one sweep reads them."""
        return named(self.gate, self.up)

    @property
    def elements(self) -> int:
        """Counted as a product."""
        return 0


@record
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


@record
class PoolHidden(Operation):
    """Add the normed hidden states of rows to sums per slot, in float64: for embeddings alone.

    weight, added, added_weight, eps, centred, bias: as of the last `Norm`, done again for rows
    without logits.
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
    centred: bool = False
    bias: str | None = None

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
        """The weights of both norms, and the bias."""
        return named(self.added_weight, self.weight, self.bias)

    @property
    def elements(self) -> int:
        """Not counted: it runs for embeddings alone, and is little beside what they take."""
        return 0


Step = (
    Embed | RopeTable | Norm | Matmul | Gated | QkNorm | RopeKvWrite | GatherLast | Attend
    | Quantize | PoolHidden
)  # fmt: skip
STEP_TYPES: tuple[type[Step], ...] = (
    Embed, RopeTable, Norm, Matmul, Gated, QkNorm, RopeKvWrite, GatherLast, Attend, Quantize,
    PoolHidden,
)  # fmt: skip
