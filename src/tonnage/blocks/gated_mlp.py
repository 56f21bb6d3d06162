"""The gated MLP (Shazeer 2020): down(activation(gate(x)) * up(x))."""

from collections.abc import Mapping
from typing import ClassVar

from tonnage.core.block import Block, BlockContext, Shape
from tonnage.core.operands import ProductPart
from tonnage.core.record import record
from tonnage.core.steps import Activation, Gated, Step


@record
class GatedMlp(Block):
    """Tensors gate, up and down, with `hidden` inner elements; a bias of each with `bias`."""

    hidden: int
    activation: Activation = "silu"
    bias: bool = False

    inputs: ClassVar[tuple[str, ...]] = ("gate", "up")
    units: ClassVar[tuple[tuple[str, ...], ...]] = (("gate", "up"), ("down",))
    sensitivity: ClassVar[Mapping[str, float]] = {"gate": 1.93, "up": 1.93, "down": 2.83}

    def tensors(self, d_model: int) -> dict[str, Shape]:
        """Return role -> shape."""
        inner = (self.hidden, d_model)
        shapes: dict[str, Shape] = {"gate": inner, "up": inner, "down": (d_model, self.hidden)}
        if self.bias:
            hidden = (self.hidden,)
            shapes |= {"gate_bias": hidden, "up_bias": hidden, "down_bias": (d_model,)}
        return shapes

    def lower(self, at: BlockContext) -> list[Step]:
        """Return one sweep over gate and up, and the product down."""
        normed = at.activations("normed", at.d_model, self.inputs)
        inner = at.activations("inner", self.hidden, ("down",))
        gate_bias, up_bias, down_bias = (
            at.name(role) if self.bias else None for role in ("gate_bias", "up_bias", "down_bias")
        )
        gated = Gated(
            at.name("gate"), at.name("up"), normed, inner, self.activation, gate_bias, up_bias
        )
        return [gated, at.output(ProductPart(at.name("down"), down_bias, 0), inner)]
