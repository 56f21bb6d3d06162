"""The plain MLP of two matrices: down(activation(up(x)))."""

from collections.abc import Mapping
from typing import ClassVar

from tonnage.core.block import Block, BlockContext, Shape
from tonnage.core.operands import ProductPart
from tonnage.core.record import record
from tonnage.core.steps import Activation, Gated, Step


@record
class Mlp(Block):
    """Tensors up and down, with `hidden` inner elements; a bias of each with `bias`."""

    hidden: int
    activation: Activation = "gelu_tanh"
    bias: bool = False

    inputs: ClassVar[tuple[str, ...]] = ("up",)
    units: ClassVar[tuple[tuple[str, ...], ...]] = (("up",), ("down",))
    # Taken to be those of the gated MLP: no model of this kind was at hand to measure.
    sensitivity: ClassVar[Mapping[str, float]] = {"up": 1.93, "down": 2.83}

    def tensors(self, d_model: int) -> dict[str, Shape]:
        """Return role -> shape."""
        shapes: dict[str, Shape] = {"up": (self.hidden, d_model), "down": (d_model, self.hidden)}
        if self.bias:
            shapes |= {"up_bias": (self.hidden,), "down_bias": (d_model,)}
        return shapes

    def lower(self, at: BlockContext) -> list[Step]:
        """Return the product up with its activation, and the product down."""
        normed = at.activations("normed", at.d_model, self.inputs)
        inner = at.activations("inner", self.hidden, ("down",))
        up_bias, down_bias = (at.name(r) if self.bias else None for r in ("up_bias", "down_bias"))
        up = Gated(at.name("up"), None, normed, inner, self.activation, up_bias)
        return [up, at.output(ProductPart(at.name("down"), down_bias, 0), inner)]
