"""What a model is made of: blocks, each a residual branch with its tensors, state and steps.

A block knows nothing of bytes, offsets or devices. Sizes, lifetimes, cost, precision and page
identity follow from what it says here and from the steps that it lowers to.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Protocol

from tonnage.core.operands import Activations, NormKind, ProductPart
from tonnage.core.record import record
from tonnage.core.rope import RopeSpec
from tonnage.core.steps import Step

Shape = tuple[int, ...]


@record
class PagedState:
    """State per token, in pages: K and V of some heads. window: positions seen, 0 for all."""

    num_kv_heads: int
    k_dim: int
    v_dim: int
    window: int = 0


@record
class SlotState:
    """State per sequence, in a slot that every step overwrites: so many float32 elements."""

    elements: int


State = PagedState | SlotState


class BlockContext(Protocol):
    """Where a block stands while it is lowered."""

    @property
    def d_model(self) -> int:
        """Elements of the residual stream."""

    @property
    def norm_eps(self) -> float:
        """What is added to the mean square in norms."""

    @property
    def kv_format(self) -> str:
        """Of pages, by name."""

    @property
    def state_index(self) -> int:
        """Of its state among those of its kind, in the model's order; -1 without state."""

    def name(self, role: str) -> str:
        """Return the canonical name of one of the block's tensors."""

    def activations(self, buffer: str, cols: int, consumers: tuple[str, ...]) -> Activations:
        """Return activations in the forms that the matrices of roles `consumers` read."""

    def rope(self, index: int) -> RopeSpec:
        """Return a rotary embedding of the model; its table is the buffer `rope<index>`."""

    def output(self, part: ProductPart, source: Activations) -> Step:
        """Return the product that ends the block, whose result goes back into the residual."""

    def gather_last(self, *buffers: tuple[str, int]) -> list[Step]:
        """Return what drops rows that nobody reads any more; buffers: (name, columns).

        For behind the writing of state. Nothing while a later block still reads other rows.
        """


class Block(ABC):
    """f of x += f(norm(x)): one residual branch of a layer, see `Branch`.

    inputs: roles of the matrices that read the block's input. units: roles of matrices that change
    their precision together. sensitivity: divergence per squared relative error of each matrix's
    role, of all layers together, at a width of 1,024 (`tonnage.planner.quality.estimate`).
    """

    __slots__ = ()
    inputs: ClassVar[tuple[str, ...]]
    units: ClassVar[tuple[tuple[str, ...], ...]]
    sensitivity: ClassVar[Mapping[str, float]]

    @abstractmethod
    def tensors(self, d_model: int) -> Mapping[str, Shape]:
        """Return role -> shape of its tensors in the order of reading; matrices are (out, in)."""

    @property
    def state(self) -> State | None:
        """What it keeps from token to token."""
        return None

    @abstractmethod
    def lower(self, at: BlockContext) -> list[Step]:
        """Return its steps: from its input, normed or not, buffer `normed`, to `at.output`."""


@record
class Branch:
    """A block in its place: x += block(x), with a norm of what goes in, what comes out, or both.

    name: of its norms, `<name>_norm` of its input and `post_<name>_norm` of its result. norm: of
    the input, with `<name>_norm_bias` where it has one; results have RMS norms. scale: of what is
    added. parallel: it reads what the branch before it read, and has no norm of its input.
    """

    name: str
    block: Block
    pre_norm: bool = True
    post_norm: bool = False
    norm: NormKind = "rms"
    scale: float = 1.0
    parallel: bool = False

    def tensors(self, d_model: int) -> dict[str, Shape]:
        """Return role -> shape of the block's tensors and of the norms."""
        before = {f"{self.name}_norm": (d_model,)} if self.pre_norm else {}
        if self.pre_norm and self.norm == "biased layer":
            before[f"{self.name}_norm_bias"] = (d_model,)
        after = {f"post_{self.name}_norm": (d_model,)} if self.post_norm else {}
        return {**before, **self.block.tensors(d_model), **after}


@record
class Layer:
    """The branches of one layer in their order; tensors of layer i are named `layers.i.<role>`."""

    branches: tuple[Branch, ...]

    def tensors(self, d_model: int) -> dict[str, Shape]:
        """Return role -> shape of all tensors."""
        found: dict[str, Shape] = {}
        for branch in self.branches:
            found |= branch.tensors(d_model)
        return found

    def sensitivity(self, role: str) -> float:
        """Return how much a matrix matters; KeyError for a role that is no matrix here."""
        for branch in self.branches:
            if role in branch.block.sensitivity:
                return branch.block.sensitivity[role]
        raise KeyError(role)
